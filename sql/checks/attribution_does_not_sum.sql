-- Components whose contributions do not sum to the model's own logit difference.
select run_id, language, visual_gender, sum(contribution) as summed, any_value(total) as total, max(sum_error) as largest_error
from logit_attribution
group by run_id, language, visual_gender
having abs(sum(contribution) - any_value(total)) > 1e-3 * greatest(1, abs(any_value(total))) or max(sum_error) > 1e-2;
