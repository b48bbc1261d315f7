-- How far each component of the model, patched between the woman's and the man's run of the same scene, moves the gender gap; total is what patching all does.
create or replace view patching_effects as
select r.model, p.part, p.layer, case p.site when 'resid_post' then 'residual stream' when 'attn_out' then 'attention' when 'mlp_out' then 'mlp' else p.site end as component,
    p.token_kind, p.direction, p.language, p.effect, p.low, p.high, p.total,
    p.over_image, p.over_image_low, p.over_image_high, p.n_images, p.n_clusters
from patching p
join latest_runs r on r.run_id = p.run_id;
comment on view patching_effects is 'Effect of patching one component at one kind of token on log P(F) - log P(M), nats.';
