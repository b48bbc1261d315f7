-- Arms that must equal the baseline (A0 does nothing, A2 keeps the error) but do not.
select b.run_id, e.arm, b.language, b.split, b.metric, b.value as baseline, e.value as with_error_kept
from steering_effects b
join steering_effects e using (run_id, layer, language, split, metric)
where b.arm = 'A0' and e.arm = 'A2' and b.note is not distinct from e.note and abs(e.value - b.value) > 1e-3;
