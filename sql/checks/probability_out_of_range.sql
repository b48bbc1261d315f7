-- Exact probabilities that are NaN, below 0 or above 1, or whose pair does not sum to 1.
select run_id, sample_id, language, p_female, p_male, p_neutral, coverage
from exact_probabilities
where isnan(p_female) or isnan(p_male) or isnan(gap) or isnan(coverage)
    or p_female not between 0 and 1 or p_male not between 0 and 1 or p_neutral not between 0 and 1
    or coverage < 0 or coverage > 1 + 1e-5 or abs(p_female + p_male - 1) > 1e-4;
