-- The exact effect of single latents beside the scores that choose them, on the select split.
create table latent_effects (
    run_id      varchar not null,
    sae_id      varchar not null,
    layer       integer not null,
    language    varchar not null,
    target      varchar not null check (target in ('visible', 'stereotype')),
    latent      integer not null,
    drawn_as    varchar not null check (drawn_as in ('top', 'random')),
    exact       double not null,
    attribution double not null,
    chosen_by   double not null
);
comment on table latent_effects is 'Exact effect of taking one latent out at the decision position, for a shortlist.';
comment on column latent_effects.exact is 'Stereotype: part of the variance of the gap over contexts, nats squared; visible: part of the gap between women and men, nats.';
comment on column latent_effects.attribution is 'Gradient times change, on the same images and formed the same way.';
comment on column latent_effects.chosen_by is 'The score that chooses latents for this target, as a distance from no association, on all images of select.';
comment on column latent_effects.drawn_as is 'top: among the best by that score; random: drawn from the other latents that fire.';
