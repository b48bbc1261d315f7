-- How well the tuned lens fits, on images it was not trained on.
create table lens_fits (
    run_id     varchar not null,
    token_kind varchar not null,
    layer      integer not null,
    kl_before  double not null,
    kl_after   double not null,
    n_fitted   integer not null,
    n_held_out integer not null
);
comment on table lens_fits is 'KL(model || lens) on held-out rows before and after the affine map, nats; separate maps for image and text tokens.';
