-- How far each component of the model, patched from the woman's picture into the run on the man's of the same scene, moves the gender gap; total is what patching all does.
create or replace view patching_effects as
select r.model, p.part, p.layer, case p.site when 'resid_post' then 'residual stream' when 'attn_out' then 'attention' when 'mlp_out' then 'mlp' else p.site end as component,
    p.token_kind, p.language, p.effect, p.low, p.high, p.total, p.n_images, p.n_clusters
from patching p
join latest_runs r on r.run_id = p.run_id;
comment on view patching_effects is 'Effect of patching one component at one kind of token on log P(F) - log P(M), nats.';
