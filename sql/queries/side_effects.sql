-- What else an intervention changes: divergence from the baseline, caption cross-entropy, length, changed captions, agreement.
-- params: language=, arm=, split=report
select arm, arm_name, target, language, strength, label, value, low, high, n_images, note
from steering_curves
where metric not in ('stereotype_spread', 'masculine_default', 'clear_harm', 'clear_accuracy', 'clear_wrong', 'clear_neutral') and arm <> 'A6'
    and ($language::varchar is null or language = $language::varchar) and ($arm::varchar is null or arm = $arm::varchar)
    and ($split::varchar is null or split = $split::varchar)
order by label, language desc, arm, target, strength;
