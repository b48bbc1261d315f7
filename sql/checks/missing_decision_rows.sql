-- Extracted samples that have no decision token: nothing can be said about gender there.
select e.run_id, e.sample_id, e.language
from extract_status e
left join token_rows t on t.run_id = e.run_id and t.sample_id = e.sample_id and t.language = e.language and t.decision
where e.status = 'done' and e.n_rows > 0 and t.sample_id is null
    -- extract.tokens.decision=false keeps none at all, and says so in its configuration.
    and exists (select 1 from token_rows d where d.run_id = e.run_id and d.decision);
