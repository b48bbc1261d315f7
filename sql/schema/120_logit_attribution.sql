-- Direct logit attribution: what each component adds to logit(woman) - logit(man) at the deciding position.
create table logit_attribution (
    run_id        varchar not null,
    layer         integer,
    component     varchar not null check (component in ('embeddings', 'attention', 'mlp')),
    language      varchar not null,
    visual_gender varchar not null check (visual_gender in ('F', 'M', 'A', 'F-M')),
    contribution  double not null,
    low           double,
    high          double,
    total         double not null,
    sum_error     double not null,
    n_images      integer not null,
    n_clusters    integer not null
);
comment on table logit_attribution is 'Contribution of embeddings, attention and MLP of each layer to logit(likeliest F token) - logit(likeliest M token); layer is null for embeddings.';
comment on column logit_attribution.visual_gender is 'F, M, A, or F-M for the difference between pictures of women and of men.';
comment on column logit_attribution.total is 'The model''s own mean logit difference: the contributions of a group sum to it.';
comment on column logit_attribution.sum_error is 'Largest distance between sum and model over single images, logits.';
