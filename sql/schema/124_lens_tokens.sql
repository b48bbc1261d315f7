-- What each layer would say: the likeliest next tokens at the deciding position.
create table lens_tokens (
    run_id           varchar not null,
    layer            integer not null,
    language         varchar not null,
    visual_gender    varchar not null,
    place            integer not null,
    token            varchar not null,
    mean_probability double not null
);
comment on table lens_tokens is 'Tokens of the logit lens by probability, averaged over the images of a language and visual gender.';
