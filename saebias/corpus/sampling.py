"""Drawing n samples that keep the mix of visual genders and contexts, the same ones whatever the order of the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from saebias.corpus.grouping import draw
from saebias.errors import InputError

Allocation = Literal["proportional", "equal"]
Stratum = tuple["str | None", "str | None"]


class Stratifiable(Protocol):
    """What sampling needs to know of a sample: SampleRecord and TableRow both tell it."""

    @property
    def sample_id(self) -> str: ...
    @property
    def cluster_id(self) -> str | None: ...
    @property
    def context(self) -> str | None: ...
    @property
    def visual_gender(self) -> str | None: ...


Row = TypeVar("Row", bound=Stratifiable)


@dataclass(frozen=True)
class StratumCount:
    """How many samples of one visual gender and context there were, and how many were taken."""

    visual_gender: str | None
    context: str | None
    n_available: int
    n_asked: int
    n_taken: int
    """Differs from `n_asked` only where clusters are kept whole."""


@dataclass(frozen=True)
class StratifiedSample(Generic[Row]):
    """The samples drawn, in the order they came in, and the counts per stratum."""

    samples: list[Row]
    strata: list[StratumCount]
    warning: str | None
    """Why there are fewer than asked for; None when there are not."""


def stratified_sample(
    samples: Sequence[Row],
    n: int,
    *,
    seed: int,
    allocation: Allocation = "proportional",
    keep_clusters: bool = False,
    when_short: Literal["error", "take_all"] = "error",
) -> StratifiedSample[Row]:
    """Exactly `n` of `samples`, drawn by seeded hash of their ids within strata of visual gender x context.

    `proportional` keeps the corpus's mix (each stratum within one of its quota); `equal` gives every stratum as much as the others as far as it has it.
    With `keep_clusters` a cluster is taken whole or not at all, so that the result can fall short of n by less than the smallest cluster left out; it
    then says so. Where fewer than `n` are available: InputError, or all of them with a warning. Sample ids must be distinct.
    """
    if n < 1:
        raise InputError(f"cannot draw {n} samples; ask for at least 1")
    strata: dict[Stratum, list[Row]] = defaultdict(list)
    for sample in samples:
        strata[sample.visual_gender, sample.context].append(sample)
    if n > len(samples):
        if when_short == "error":
            raise InputError(f"{n} samples were asked for and {len(samples)} are available; ask for fewer, or take all there are")
        counts = [_count(stratum, members, len(members), len(members)) for stratum, members in _sorted(strata)]
        return StratifiedSample(list(samples), counts, f"{n} samples were asked for; all {len(samples)} available were taken")
    sizes = {stratum: len(members) for stratum, members in strata.items()}
    asked = _proportional(sizes, n, seed) if allocation == "proportional" else _equal(sizes, n, seed)
    taken = _whole_clusters(samples, asked, n, seed) if keep_clusters else _lowest(strata, asked, seed)
    kept = [sample for sample in samples if sample.sample_id in taken]
    counts = [_count(stratum, members, asked[stratum], sum(member.sample_id in taken for member in members)) for stratum, members in _sorted(strata)]
    warning = None if len(kept) == n else f"{len(kept)} of {n} samples were taken: every cluster left out is larger than the {n - len(kept)} still wanted"
    return StratifiedSample(kept, counts, warning)


def _name(stratum: Stratum) -> str:
    return "\0".join("" if part is None else f"={part}" for part in stratum)


def _sorted(strata: Mapping[Stratum, list[Row]]) -> list[tuple[Stratum, list[Row]]]:
    return sorted(strata.items(), key=lambda item: _name(item[0]))


def _count(stratum: Stratum, members: Sequence[Stratifiable], n_asked: int, n_taken: int) -> StratumCount:
    return StratumCount(stratum[0], stratum[1], len(members), n_asked, n_taken)


def _proportional(sizes: Mapping[Stratum, int], n: int, seed: int) -> dict[Stratum, int]:
    """Largest remainders (Hamilton's method); equal remainders by seeded hash. Quotas never pass a stratum's size because n <= sum of sizes."""
    total = sum(sizes.values())
    # Whole numbers throughout: with floats two equal remainders need not compare equal.
    quota = {stratum: divmod(n * size, total) for stratum, size in sizes.items()}
    spare = n - sum(whole for whole, _ in quota.values())
    order = sorted(quota, key=lambda stratum: (-quota[stratum][1], draw(seed, "stratum", _name(stratum)), _name(stratum)))
    return {stratum: quota[stratum][0] + (rank < spare) for rank, stratum in enumerate(order)}


def _equal(sizes: Mapping[Stratum, int], n: int, seed: int) -> dict[Stratum, int]:
    """As even as sizes allow: the smallest strata are filled first, each with its share of what is still wanted."""
    asked = {}
    order = sorted(sizes, key=lambda stratum: (sizes[stratum], draw(seed, "stratum", _name(stratum)), _name(stratum)))
    for rank, stratum in enumerate(order):
        asked[stratum] = min(sizes[stratum], n // (len(order) - rank))
        n -= asked[stratum]
    return asked


def _lowest(strata: Mapping[Stratum, list[Row]], asked: Mapping[Stratum, int], seed: int) -> set[str]:
    taken: set[str] = set()
    for stratum, members in strata.items():
        ids = sorted((draw(seed, "sample", member.sample_id), member.sample_id) for member in members)
        taken.update(sample_id for _, sample_id in ids[: asked[stratum]])
    return taken


def _whole_clusters(samples: Sequence[Row], asked: Mapping[Stratum, int], n: int, seed: int) -> set[str]:
    """Clusters in the order of their hash: first those that fit what their strata still want, then any that fit what is wanted in all."""
    clusters: dict[str, list[Row]] = defaultdict(list)
    for sample in samples:
        clusters[sample.sample_id if sample.cluster_id is None else f"\0{sample.cluster_id}"].append(sample)
    order = sorted(clusters, key=lambda cluster: (draw(seed, "cluster", cluster), cluster))
    wanted = dict(asked)
    taken: set[str] = set()
    for by_stratum in (True, False):
        for cluster in order:
            members = clusters[cluster]
            if members[0].sample_id in taken or len(taken) + len(members) > n:
                continue
            needs: dict[Stratum, int] = defaultdict(int)
            for member in members:
                needs[member.visual_gender, member.context] += 1
            if by_stratum and any(count > wanted[stratum] for stratum, count in needs.items()):
                continue
            for stratum, count in needs.items():
                wanted[stratum] -= count
            taken.update(member.sample_id for member in members)
    return taken
