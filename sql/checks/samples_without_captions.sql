-- Samples that have no reference caption in any language.
select s.run_id, s.sample_id
from samples s
left join captions c on c.run_id = s.run_id and c.sample_id = s.sample_id
where c.sample_id is null;
