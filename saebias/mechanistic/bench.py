"""How time and memory of the tools on latents grow with rows and latents, each size in a process of its own: `python -m saebias.mechanistic.bench`.

Codes are made chunk by chunk (32 active latents a row, as a k-sparse dictionary gives them) and never exist dense. Pairwise tools get a shortlist.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

ACTIVE = 32
IMAGES_PER_CLUSTER = 4
SHORTLIST = 64
MATCHED = 256
CHUNK_NUMBERS = 16_000_000
SIZES = ((25_000, 4096), (50_000, 4096), (100_000, 4096), (50_000, 8192), (50_000, 16384))


@dataclass(frozen=True)
class Measured:
    """Processor seconds per tool and the largest memory of a process that ran all of them once."""

    rows: int
    latents: int
    seconds: dict[str, float]
    peak_mib: float

    @property
    def total(self) -> float:
        """Seconds of all tools."""
        return sum(self.seconds.values())


def made_chunks(n_rows: int, n_latents: int, seed: int) -> Iterator[np.ndarray]:
    """Dense chunks of codes of bounded size; a few latents lean to women."""
    rng = np.random.default_rng(seed)
    step = max(64, CHUNK_NUMBERS // n_latents)
    for start in range(0, n_rows, step):
        n = min(step, n_rows - start)
        chunk_NF = np.zeros((n, n_latents), dtype=np.float32)
        # Few latents fire often and most seldom, as in a trained dictionary.
        places_NK = (n_latents * rng.random((n, ACTIVE)) ** 2).astype(np.int64)
        np.put_along_axis(chunk_NF, places_NK, rng.gamma(2, 1, size=places_NK.shape).astype(np.float32), axis=1)
        yield chunk_NF


def measure(n_rows: int, n_latents: int, n_permutations: int) -> Measured:
    """Run every tool on latents once on made codes of two languages."""
    from saebias.identifiers import FeatureRef
    from saebias.mechanistic.codes import SparseCodes
    from saebias.mechanistic.contrastive import latent_effect_rows
    from saebias.mechanistic.feature_alignment import CrossLingualFeatureAligner, DictionaryCodes
    from saebias.mechanistic.grammar import MorphologicalGenderAnalyzer, SemanticGenderAnalyzer, Words
    from saebias.mechanistic.interaction import InteractionPatternAnalyzer
    from saebias.mechanistic.language_profile import LanguageFeatureProfile
    from saebias.mechanistic.language_specific import LanguageSpecificFeatureIdentifier

    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        before = time.process_time()
        found = work()
        seconds[name] = time.process_time() - before
        # A size that takes minutes says how far it is.
        print(f"{name}: {seconds[name]:.1f} s, peak so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB", file=sys.stderr, flush=True)
        return found

    sides: list[SparseCodes] = []
    timed("codes of both languages", lambda: sides.extend(SparseCodes.from_chunks(made_chunks(n_rows, n_latents, seed)) for seed in (1, 2)))
    en, ar = sides
    cluster_N = np.arange(n_rows) // IMAGES_PER_CLUSTER
    gender_N = np.where(cluster_N % 2 == 0, "F", "M")
    few = np.arange(SHORTLIST)
    named = [FeatureRef("bench", int(latent)) for latent in few]
    lexeme_N = np.arange(n_rows) % 600
    words = Words(en, lexeme_N % 2 == 0, np.array(["F", "M", "N"])[lexeme_N % 3], lexeme_N)
    matched = tuple(FeatureRef("bench", latent) for latent in range(MATCHED))
    shortlists = [DictionaryCodes(matched, SparseCodes(side.matrix[:, :MATCHED])) for side in sides]
    timed("LanguageFeatureProfile", lambda: LanguageFeatureProfile(n_permutations=n_permutations).read("bench", "en", en, gender_N, cluster_N, seed=1))
    timed(
        "LanguageSpecificFeatureIdentifier",
        lambda: LanguageSpecificFeatureIdentifier(n_permutations=n_permutations).read("bench", en, ar, gender_N, cluster_N, seed=1),
    )
    timed("ContrastiveLanguageAnalyzer, latents", lambda: latent_effect_rows(0, en, ar, gender_N, cluster_N))
    timed("MorphologicalGenderAnalyzer", lambda: MorphologicalGenderAnalyzer(n_permutations=n_permutations).read("bench", words, seed=1))
    timed("SemanticGenderAnalyzer", lambda: SemanticGenderAnalyzer(n_permutations=n_permutations).read("bench", words, seed=1))
    timed(
        f"InteractionPatternAnalyzer, {SHORTLIST} latents",
        lambda: InteractionPatternAnalyzer(n_permutations=n_permutations).read(named, SparseCodes(en.matrix[:, few]), gender_N, cluster_N),
    )
    timed(
        f"CrossLingualFeatureAligner, {MATCHED} latents",
        lambda: CrossLingualFeatureAligner(n_permutations=3, min_firing=0.0).read(*shortlists, cluster_N, seed=1),
    )
    return Measured(n_rows, n_latents, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measured_apart(n_rows: int, n_latents: int, n_permutations: int) -> Measured:
    """`measure` in a fresh process, so that one size's peak is not another's."""
    command = [sys.executable, "-m", "saebias.mechanistic.bench", "--one", str(n_rows), str(n_latents), "--permutations", str(n_permutations)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print seconds and peak memory by size, and how much both grow when rows or latents double."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, type=int, metavar=("ROWS", "LATENTS"), help="measure one size in this process, as JSON")
    parser.add_argument("--permutations", type=int, default=99)
    arguments = parser.parse_args()
    if arguments.one:
        found = measure(*arguments.one, arguments.permutations)
        print(json.dumps({"rows": found.rows, "latents": found.latents, "seconds": found.seconds, "peak_mib": found.peak_mib}))
        return
    results = {size: measured_apart(*size, arguments.permutations) for size in SIZES}
    for found in results.values():
        print(f"{found.rows:>9,} rows x {found.latents:>6,} latents: {found.total:6.1f} s of processor time, peak {found.peak_mib:,.0f} MiB")
    largest = results[SIZES[2]]
    for name, spent in largest.seconds.items():
        print(f"    {name:<44} {spent:6.2f} s at {largest.rows:,} rows, {spent / max(results[SIZES[1]].seconds[name], 1e-9):.2f} x half as many")
    rows_twice = results[SIZES[2]].total / results[SIZES[1]].total
    latents_twice = results[SIZES[4]].total / results[SIZES[3]].total
    print(f"twice the rows take {rows_twice:.2f} x the time, twice the latents {latents_twice:.2f} x (1 to 2 is linear: half of it is the active codes)")
    per_row = (results[SIZES[2]].peak_mib - results[SIZES[0]].peak_mib) / (SIZES[2][0] - SIZES[0][0])
    print(f"peak memory grows by {per_row * 1024:.2f} KiB a row of both languages: {results[SIZES[2]].peak_mib + per_row * 900_000:,.0f} MiB at 1,000,000 rows")


if __name__ == "__main__":
    main()
