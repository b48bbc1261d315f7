"""Splits: whole clusters, concepts never in both select and report, and nothing that depends on order or on neighbours."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.corpus.records import SampleRecord
from saebias.corpus.splits import assign_splits, check_splits, count_splits, thin_contexts
from saebias.errors import InputError


def sample(index, cluster=None, concept=None, context="cook", **fields):
    return SampleRecord(f"s{index}", f"i{index}", cluster or f"i{index}", context, "A", concept=concept, **fields)


def corpus(n_contexts=8, concepts=4, clusters=5, per_cluster=2):
    """Contexts with concepts of their own, with clusters of their own."""
    samples = []
    for context in range(n_contexts):
        for concept in range(concepts):
            for cluster in range(clusters):
                for _ in range(per_cluster):
                    name = f"{context}.{concept}"
                    samples.append(sample(len(samples), f"{name}.{cluster}", name, f"job {context}"))
    return samples


def by_id(samples):
    return {item.sample_id: item.split for item in samples}


few = st.integers(0, 5)
drawn_samples = st.lists(st.tuples(st.integers(0, 12), st.none() | few, st.none() | few), min_size=1, max_size=40).map(
    lambda rows: [
        sample(index, f"k{cluster}", None if concept is None else f"c{concept}", None if context is None else f"x{context}")
        for index, (cluster, concept, context) in enumerate(rows)
    ]
)


@settings(deadline=None)
@given(drawn_samples, st.integers(0, 10**6), st.sampled_from(["concept", "cluster"]))
def test_clusters_stay_whole_and_concepts_apart_whatever_is_split(samples, seed, unit):
    try:
        split = assign_splits(samples, seed=seed, unit=unit)
    except InputError as error:
        assert "name more concepts" in str(error)
        return
    assert [replace(item, split=None) for item in split] == samples
    clusters, concepts = defaultdict(set), defaultdict(set)
    for item in split:
        clusters[item.cluster_id].add(item.split)
        concepts[item.concept].add(item.split)
    assert all(len(splits) == 1 for splits in clusters.values())
    if unit == "concept":
        check_splits(split)
        assert not any({"select", "report"} <= splits for concept, splits in concepts.items() if concept is not None)


@settings(deadline=None)
@given(drawn_samples, st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_order_does_not_matter(samples, seed, rng):
    shuffled = rng.sample(samples, len(samples))
    try:
        assert by_id(assign_splits(samples, seed=seed)) == by_id(assign_splits(shuffled, seed=seed))
    except InputError:
        with pytest.raises(InputError):
            assign_splits(shuffled, seed=seed)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 319))
def test_more_samples_move_no_other_while_concepts_stay(seed, n_fewer):
    samples = corpus()
    # One sample of each concept stays, so that the list of concepts does.
    kept = [item for index, item in enumerate(samples) if index % 10 == 0 or index >= n_fewer]
    whole = by_id(assign_splits(samples, seed=seed))
    assert all(whole[sample_id] == split for sample_id, split in by_id(assign_splits(kept, seed=seed)).items())


def test_the_same_seed_gives_the_same_splits_and_another_gives_others():
    samples = corpus()
    assert assign_splits(samples, seed=1) == assign_splits(samples, seed=1)
    assert by_id(assign_splits(samples, seed=1)) != by_id(assign_splits(samples, seed=2))


def test_splits_of_a_known_corpus_do_not_change_between_versions():
    # A change here moves every user's images between splits: reported numbers would then rest on images that chose the latents.
    splits = [item.split for item in assign_splits(corpus(n_contexts=2, concepts=2, clusters=3, per_cluster=1), seed=0)]
    assert [" ".join(str(split) for split in splits[start : start + 3]) for start in range(0, 12, 3)] == [
        "sae report report",
        "select sae select",
        "report report report",
        "select sae select",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_concepts_are_dealt_out_evenly_and_within_each_context(seed):
    split = assign_splits(corpus(clusters=20), seed=seed)
    halves = {item.concept: item.split for item in split if item.split != "sae"}
    assert Counter(halves.values()) == {"select": 16, "report": 16}
    for context in range(8):
        assert Counter(half for concept, half in halves.items() if str(concept).startswith(f"{context}.")) == {"select": 2, "report": 2}


def test_shares_are_kept():
    samples = corpus(clusters=40)
    counts = Counter(item.split for item in assign_splits(samples, shares={"sae": 0.5, "select": 0.125, "report": 0.375}, seed=3))
    assert counts["sae"] / len(samples) == pytest.approx(0.5, abs=0.05)
    assert counts["select"] / counts["report"] == pytest.approx(1 / 3, abs=0.08)


def test_without_concepts_clusters_are_dealt_by_their_hash():
    samples = [sample(index) for index in range(4000)]
    counts = Counter(item.split for item in assign_splits(samples, seed=3))
    for split, share in (("sae", 0.4), ("select", 0.3), ("report", 0.3)):
        assert counts[split] / 4000 == pytest.approx(share, abs=0.03)
    assert by_id(assign_splits(samples, seed=3)) == by_id(assign_splits(samples, seed=3, unit="cluster"))


def test_concepts_that_share_a_cluster_go_together():
    samples = [sample(index, f"k{index % 60}", f"c{index % 12}") for index in range(240)]
    # c0 and c1 have one drawing in common; a sample of it without a concept follows.
    samples += [sample(900, "both", "c0"), sample(901, "both", "c1"), sample(902, "both")]
    for seed in range(30):
        split = assign_splits(samples, seed=seed)
        check_splits(split)
        assert len({item.split for item in split if item.concept in ("c0", "c1") and item.split != "sae"}) <= 1


@pytest.mark.parametrize("seed", range(10))
def test_two_concepts_are_enough_for_both_halves_whatever_the_shares(seed):
    samples = [sample(index, concept=f"c{index % 2}") for index in range(200)]
    for share in (0.05, 0.3, 0.55):
        assert {item.split for item in assign_splits(samples, shares={"sae": 0.4, "select": share, "report": 0.6 - share}, seed=seed)} == {
            "sae",
            "select",
            "report",
        }


def test_one_concept_alone_is_refused_with_the_way_out():
    samples = [sample(index, concept="cook") for index in range(50)]
    with pytest.raises(InputError, match="all samples are of 'cook'; name more concepts, or split by cluster"):
        assign_splits(samples, seed=0)
    assert {item.split for item in assign_splits(samples, seed=0, unit="cluster")} == {"sae", "select", "report"}
    assert {item.split for item in assign_splits(samples, shares={"sae": 0.5, "select": 0, "report": 0.5}, seed=0)} == {"sae", "report"}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"sae": 0.5, "select": 0.5}, "name sae, select, report"),
        ({"sae": 0.5, "select": 0.5, "report": 0.5}, "sum to 1.5"),
        ({"sae": 1.2, "select": -0.2, "report": 0}, "between 0 and 1"),
        ({"sae": float("nan"), "select": 0.5, "report": 0.5}, "between 0 and 1"),
    ],
)
def test_bad_shares_are_refused(shares, message):
    with pytest.raises(InputError, match=message):
        assign_splits(corpus(), shares=shares, seed=0)
    with pytest.raises(InputError, match="unknown split unit 'image'"):
        assign_splits(corpus(), seed=0, unit="image")  # ty: ignore[invalid-argument-type]


def test_everything_may_go_to_sae():
    assert {item.split for item in assign_splits(corpus(), shares={"sae": 1, "select": 0, "report": 0}, seed=0)} == {"sae"}


def test_a_leak_between_splits_is_refused_and_named():
    good = assign_splits(corpus(), seed=4)
    check_splits(good)
    moved = next(index for index, item in enumerate(good) if item.split == "select")
    with pytest.raises(InputError, match=r"cluster '.*' is in report and select"):
        check_splits([replace(item, split="report") if index == moved else item for index, item in enumerate(good)])
    with pytest.raises(InputError, match=r"concept 'a' is in report and select"):
        check_splits([sample(0, concept="a", split="select"), sample(1, concept="a", split="report"), sample(2, concept="a", split="sae")])
    with pytest.raises(InputError, match=r"image 'i0' is in sae and select"):
        check_splits([sample(0, "k0", split="select"), replace(sample(0, "k1", split="sae"), sample_id="other")])
    with pytest.raises(InputError, match="has split None"):
        check_splits([sample(0)])


def test_counts_add_up_and_thin_contexts_are_told():
    split = assign_splits([*corpus(), sample(9000, "lone", "lone", "rare job")], seed=5)
    counts = count_splits(split, min_clusters=4)
    assert sum(row.n_samples for row in counts) == len(split)
    assert sum(row.n_clusters for row in counts) == 161
    rare = next(row for row in counts if row.context == "rare job")
    assert (rare.n_samples, rare.too_few) == (1, True)
    told = thin_contexts([row for row in counts if row.split != "select"])
    assert told[0] == "split select is empty"
    thin = [replace(row, split="report") for row in counts if row.context == "rare job"]
    assert "split report has too few independent pictures in 1 of 1 contexts: rare job (1)" in thin_contexts(thin)


def test_seeds_spread_images_over_splits_without_favour():
    seen = Counter(assign_splits([sample(7)], seed=seed)[0].split for seed in range(3000))
    assert seen["sae"] / 3000 == pytest.approx(0.4, abs=0.03)
