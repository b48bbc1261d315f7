"""Which images train dictionaries, which choose latents, and which every reported number is computed on.

Why three: choosing 100 of 16,384 pure-noise latents on 500 images gives a cross-validated accuracy of .92 on those images and .50 on others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, isclose
from typing import Literal

from saebias.corpus.grouping import Groups, draw
from saebias.corpus.records import SPLITS, SampleRecord
from saebias.errors import InputError

DEFAULT_SHARES = {"sae": 0.4, "select": 0.3, "report": 0.3}
NAMED = 3

Unit = Literal["concept", "cluster"]


@dataclass(frozen=True)
class SplitCount:
    """How much of one context one split holds; `context` is None for samples without one."""

    split: str
    context: str | None
    n_samples: int
    n_images: int
    n_clusters: int
    too_few: bool
    """True where fewer clusters than asked for stand behind the context's numbers."""


def assign_splits(
    samples: Sequence[SampleRecord],
    *,
    shares: Mapping[str, float] | None = None,
    seed: int,
    unit: Unit = "concept",
) -> list[SampleRecord]:
    """The same samples, in the same order, each with its split.

    A cluster goes to `sae` whole, with probability `shares["sae"]`, by the hash of its id. Of the others, whole concepts go to `select` or `report`:
    concepts are ordered by seeded hash within their context and dealt out evenly, so that both halves hold as many concepts (within one) and a
    context with several concepts stands in both (at equal shares). Clusters without a concept, and all with `unit="cluster"`, go by their own hash.
    Concepts that share a cluster count as one. Nothing depends on the order of samples; more samples move no other sample while concepts, their
    contexts and what joins them stay the same. Raises InputError for bad shares, or when there is one concept only for select and report together.
    """
    shares = _checked_shares(shares or DEFAULT_SHARES)
    if unit not in ("concept", "cluster"):
        raise InputError(f"unknown split unit {unit!r}; use concept or cluster")
    labelled = shares["select"] + shares["report"]
    p_select = shares["select"] / labelled if labelled > 0 else 0.0
    group_of = _concept_groups(samples) if unit == "concept" else {}
    half_of_group = _deal_out(samples, group_of, p_select, seed)
    if len(half_of_group) == 1 and 0 < p_select < 1 and all(sample.cluster_id in group_of for sample in samples):
        raise InputError(
            f"select and report need a concept each, and all samples are of {next(iter(half_of_group))!r}; name more concepts, or split by cluster"
        )
    split_of = {}
    for cluster in {sample.cluster_id for sample in samples}:
        if draw(seed, "sae", cluster) < shares["sae"]:
            split_of[cluster] = "sae"
        elif cluster in group_of:
            split_of[cluster] = half_of_group[group_of[cluster]]
        else:
            split_of[cluster] = "select" if draw(seed, "half", cluster) < p_select else "report"
    return [replace(sample, split=split_of[sample.cluster_id]) for sample in samples]


def check_splits(samples: Iterable[SampleRecord]) -> None:
    """Raises InputError when a sample has no known split, an image or a cluster spans two, or a concept stands in both select and report."""
    splits_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in samples:
        if sample.split not in SPLITS:
            raise InputError(f"sample {sample.sample_id!r} has split {sample.split!r}; splits are {', '.join(SPLITS)}")
        splits_of["image", sample.image_id].add(sample.split)
        splits_of["cluster", sample.cluster_id].add(sample.split)
        if sample.concept is not None:
            splits_of["concept", sample.concept].add(sample.split)
    for kind in ("image", "cluster", "concept"):
        # Dictionaries are trained without labels: a concept may stand in sae and in one of the others.
        allowed = {"sae"} if kind == "concept" else set()
        bad = sorted(name for (of, name), splits in splits_of.items() if of == kind and len(splits - allowed) > 1)
        if bad:
            more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
            where = " and ".join(sorted(splits_of[kind, bad[0]] - allowed))
            raise InputError(f"{kind} {', '.join(map(repr, bad[:NAMED]))}{more} is in {where}; assign the splits anew, each {kind} to one")


def count_splits(samples: Sequence[SampleRecord], *, min_clusters: int = 10) -> list[SplitCount]:
    """One row per split and context that meet, sorted; `too_few` where fewer than `min_clusters` independent pictures stand behind it."""
    cells: dict[tuple[str, str | None], list[SampleRecord]] = defaultdict(list)
    for sample in samples:
        if sample.split is None:
            raise InputError(f"sample {sample.sample_id!r} has no split; assign splits before counting")
        cells[sample.split, sample.context].append(sample)
    rows = []
    for (split, context), members in sorted(cells.items(), key=lambda item: (SPLITS.index(item[0][0]), item[0][1] or "")):
        n_clusters = len({sample.cluster_id for sample in members})
        rows.append(SplitCount(split, context, len(members), len({sample.image_id for sample in members}), n_clusters, n_clusters < min_clusters))
    return rows


def thin_contexts(counts: Sequence[SplitCount]) -> list[str]:
    """One sentence per split that has contexts with too few pictures, and one per split that has none at all; empty when all is well."""
    sentences = []
    for split in SPLITS:
        rows = [row for row in counts if row.split == split]
        if not rows:
            sentences.append(f"split {split} is empty")
        thin = [row for row in rows if row.too_few and row.context is not None]
        # Dictionaries are trained on all contexts together: only the two labelled splits need enough of each.
        if thin and split != "sae":
            names = ", ".join(f"{row.context} ({row.n_clusters})" for row in sorted(thin, key=lambda row: (row.n_clusters, row.context or ""))[: 2 * NAMED])
            sentences.append(f"split {split} has too few independent pictures in {len(thin)} of {len(rows)} contexts: {names}")
    return sentences


def _checked_shares(shares: Mapping[str, float]) -> Mapping[str, float]:
    if set(shares) != set(SPLITS):
        raise InputError(f"split shares name {', '.join(sorted(shares))}; name {', '.join(SPLITS)}")
    if any(not 0 <= share <= 1 for share in shares.values()) or not isclose(sum(shares.values()), 1, abs_tol=1e-9):
        raise InputError(f"split shares {dict(shares)} must lie between 0 and 1 and sum to 1; they sum to {sum(shares.values()):g}")
    return shares


def _concept_groups(samples: Sequence[SampleRecord]) -> dict[str, str]:
    """Cluster id -> name of its group of concepts, for clusters that have one. The group's name is its smallest concept."""
    groups: Groups[tuple[str, str]] = Groups()
    for sample in samples:
        if sample.concept is not None:
            groups.join(("cluster", sample.cluster_id), ("concept", sample.concept))
    group_of = {}
    for members in groups.members():
        name = min(key for kind, key in members if kind == "concept")
        group_of.update((key, name) for kind, key in members if kind == "cluster")
    return group_of


def _deal_out(samples: Sequence[SampleRecord], group_of: Mapping[str, str], p_select: float, seed: int) -> dict[str, str]:
    """Group -> select or report. Of the first i groups, floor(i p + u) are in select, u drawn from the seed: even at every point of the list."""
    contexts: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.cluster_id in group_of:
            contexts[group_of[sample.cluster_id]].add(sample.context or "")
    order = sorted(contexts, key=lambda group: (draw(seed, "context", min(contexts[group])), min(contexts[group]), draw(seed, "concept", group), group))
    offset = draw(seed, "offset", "")
    half_of = {}
    for rank, group in enumerate(order):
        half_of[group] = "select" if floor((rank + 1) * p_select + offset) > floor(rank * p_select + offset) else "report"
    for half in {"select", "report"} - set(half_of.values()):
        if len(order) > 1 and 0 < p_select < 1:
            # Two concepts at a share of .1 would often leave a half without any.
            half_of[order[0]] = half
    return half_of
