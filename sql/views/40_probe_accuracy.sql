-- How well a linear probe reads visible gender, per layer, token kind and language, with its controls; layer is null for a baseline that reads no activations.
create or replace view probe_accuracy as
select r.model, p.layer, p.train_language, p.test_language, p.token_kind, p.baseline, p.balanced_accuracy, p.low, p.high, p.auroc, p.control_accuracy, p.selectivity,
    p.permuted_accuracy, p.bits, p.n_images, p.n_clusters, p.note
from probes p
join latest_runs r on r.run_id = p.run_id;
comment on view probe_accuracy is 'Linear probes of visible gender with controls.';
