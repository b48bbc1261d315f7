-- Samples whose number of activation rows is not the number that extract said it kept.
select e.run_id, e.sample_id, e.language, e.n_rows as said, count(t.row) as found
from extract_status e
left join token_rows t on t.run_id = e.run_id and t.sample_id = e.sample_id and t.language = e.language
group by e.run_id, e.sample_id, e.language, e.n_rows
having count(t.row) <> e.n_rows;
