"""Sampling to n: exact, in the corpus's mix, and the same samples whatever the order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.corpus.records import SampleRecord
from saebias.corpus.sampling import stratified_sample
from saebias.errors import InputError

rows = st.lists(
    st.tuples(st.sampled_from(["F", "M", "A", None]), st.sampled_from(["cook", "pilot", "nurse", None]), st.integers(0, 15)), min_size=1, max_size=60
)
drawn_samples = rows.map(lambda rows: [SampleRecord(f"s{i}", f"i{i}", f"k{cluster}", context, gender) for i, (gender, context, cluster) in enumerate(rows)])


def ids(result):
    return [sample.sample_id for sample in result.samples]


@settings(deadline=None)
@given(drawn_samples, st.data())
def test_proportional_sampling_is_exact_and_within_one_of_every_quota(samples, data):
    n = data.draw(st.integers(1, len(samples)))
    result = stratified_sample(samples, n, seed=data.draw(st.integers(0, 999)))
    assert len(result.samples) == len(set(ids(result))) == n
    assert result.warning is None
    assert sum(row.n_available for row in result.strata) == len(samples)
    for row in result.strata:
        assert abs(row.n_taken - n * row.n_available / len(samples)) < 1
        assert row.n_taken == row.n_asked <= row.n_available


@settings(deadline=None)
@given(drawn_samples, st.data())
def test_equal_sampling_is_exact_and_as_even_as_sizes_allow(samples, data):
    n = data.draw(st.integers(1, len(samples)))
    result = stratified_sample(samples, n, seed=data.draw(st.integers(0, 999)), allocation="equal")
    assert len(result.samples) == n
    most = max(row.n_taken for row in result.strata)
    # A stratum stays behind the others by more than one only where it has no more to give.
    assert all(row.n_taken >= most - 1 or row.n_taken == row.n_available for row in result.strata)


@settings(deadline=None)
@given(drawn_samples, st.data(), st.randoms(use_true_random=False), st.booleans(), st.sampled_from(["proportional", "equal"]))
def test_order_does_not_matter(samples, data, rng, keep_clusters, allocation):
    n = data.draw(st.integers(1, len(samples)))
    shuffled = rng.sample(samples, len(samples))
    one, other = (stratified_sample(each, n, seed=5, keep_clusters=keep_clusters, allocation=allocation) for each in (samples, shuffled))
    assert set(ids(one)) == set(ids(other))
    assert (one.strata, one.warning) == (other.strata, other.warning)
    assert ids(one) == [sample.sample_id for sample in samples if sample.sample_id in set(ids(one))]


@settings(deadline=None)
@given(drawn_samples, st.data())
def test_kept_clusters_are_whole_and_what_is_missing_is_told(samples, data):
    n = data.draw(st.integers(1, len(samples)))
    result = stratified_sample(samples, n, seed=data.draw(st.integers(0, 999)), keep_clusters=True)
    sizes = Counter(sample.cluster_id for sample in samples)
    taken = Counter(sample.cluster_id for sample in result.samples)
    assert all(sizes[cluster] == count for cluster, count in taken.items())
    assert len(result.samples) <= n
    assert (result.warning is None) == (len(result.samples) == n)
    assert all(size > n - len(result.samples) for cluster, size in sizes.items() if cluster not in taken)


def test_clusters_of_one_reach_n_exactly():
    samples = [SampleRecord(f"s{i}", f"i{i}", f"i{i}", f"x{i % 3}", "F") for i in range(50)]
    assert len(stratified_sample(samples, 17, seed=1, keep_clusters=True).samples) == 17


def test_samples_stay_in_when_others_of_their_stratum_come():
    samples = [SampleRecord(f"s{i}", f"i{i}", f"i{i}", "cook", "F") for i in range(100)]
    fewer, more = (set(ids(stratified_sample(samples, n, seed=2))) for n in (20, 30))
    assert fewer < more


def test_the_seed_decides():
    samples = [SampleRecord(f"s{i}", f"i{i}", f"i{i}", "cook", "F") for i in range(100)]
    assert ids(stratified_sample(samples, 50, seed=1)) == ids(stratified_sample(samples, 50, seed=1))
    assert ids(stratified_sample(samples, 50, seed=1)) != ids(stratified_sample(samples, 50, seed=2))


def test_every_sample_has_the_same_chance():
    samples = [SampleRecord(f"s{i}", f"i{i}", f"i{i}", "cook", "F") for i in range(20)]
    seen = Counter(sample_id for seed in range(2000) for sample_id in ids(stratified_sample(samples, 5, seed=seed)))
    # 2,000 draws at 1/4: a standard deviation of 19.4; five of them is beyond chance for 20 samples.
    assert all(abs(count - 500) < 97 for count in seen.values())


def test_more_than_there_are_is_refused_or_told():
    samples = [SampleRecord(f"s{i}", f"i{i}", f"i{i}", "cook", "F") for i in range(3)]
    with pytest.raises(InputError, match="5 samples were asked for and 3 are available"):
        stratified_sample(samples, 5, seed=0)
    result = stratified_sample(samples, 5, seed=0, when_short="take_all")
    assert (result.samples, result.warning) == (samples, "5 samples were asked for; all 3 available were taken")
    assert [(row.n_available, row.n_taken) for row in result.strata] == [(3, 3)]
    with pytest.raises(InputError, match="cannot draw 0 samples"):
        stratified_sample(samples, 0, seed=0)
