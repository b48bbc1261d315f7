-- What text stands nearest to each token of a picture, by layer, with the picture.
create or replace view image_words as
select r.model, n.layer, n.sample_id, s.profession, s.image_shows, s.image_path, n.position, n.token, n.share, n.cosine
from image_neighbours n
join latest_runs r on r.run_id = n.run_id
join run_samples s on s.run_id = n.run_id and s.sample_id = n.sample_id;
comment on view image_words is 'Image tokens by their nearest text activations.';
