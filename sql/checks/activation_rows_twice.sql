-- Activation rows that two tokens claim, and token rows whose prompt nobody recorded.
select 'claimed twice' as what, run_id, row::varchar as which, count(*) as n from token_rows group by run_id, row having count(*) > 1
union all
select 'unknown prompt', t.run_id, t.prompt_id, count(*)
from token_rows t
left join extract_prompts p on p.run_id = t.run_id and p.prompt_id = t.prompt_id
where p.prompt_id is null
group by t.run_id, t.prompt_id;
