-- Samples whose image is not among the accepted images.
select s.run_id, s.sample_id, s.image_id
from samples s
left join images i on i.run_id = s.run_id and i.image_id = s.image_id
where i.image_id is null;
