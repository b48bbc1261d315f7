"""Laws of what probes read: reading a layer in blocks changes no mean, and a picture seen by both languages is probed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saebias.identifiers import HookPoint
from saebias.mechanistic.probes import ProbePlace, ProbeRows, TransformerProbeAnalyzer, pool_tokens
from saebias.stages import probe_rows
from saebias.stages.activation_source import Source
from saebias.stages.token_index import TokenIndex
from saebias.store.arrays import ActivationArray, create_activations, write_shard

N, D = 300, 8


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Rows of 20 samples whose tokens lie scattered over the array."""
    rng = np.random.default_rng(0)
    create_activations(tmp_path / "x.zarr", [HookPoint(0)], N, D, dtype="float32", shard_rows=512, model={})
    write_shard(tmp_path / "x.zarr", 0, rng.normal(size=(N, 1, D)).astype(np.float32))
    sample = np.array([f"s{n:02d}" for n in range(20)], dtype=object)[rng.integers(20, size=N)]
    shown = {f"s{n:02d}": {"visual_gender": "FMA"[n % 3]} for n in range(20)}
    values = {
        "row": np.arange(N),
        "sample_id": sample,
        "language": np.array(["en", "ar"], dtype=object)[rng.integers(2, size=N)],
        "split": np.full(N, "report", dtype=object),
        "position": np.zeros(N, dtype=int),
        "token_kind": np.array(["image", "prompt"], dtype=object)[rng.integers(2, size=N)],
        "decision": rng.random(N) < 0.1,
    }
    flags = {name: np.zeros(N, dtype=bool) for name in TokenIndex.__dataclass_fields__ if name not in values}
    return Source(ActivationArray(tmp_path / "x.zarr"), TokenIndex(**values, **flags), shown, [HookPoint(0)])


def test_reading_in_blocks_gives_the_means_of_reading_at_once(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = probe_rows._parts(source)
    assert len(parts) == 6 and not any(sample in {"s02", "s05"} for part in parts.values() for sample in part.sample_id)
    x_ND = source.array.read(HookPoint(0))
    monkeypatch.setattr(probe_rows, "BLOCK_ROWS", 37)
    for key, (means, names) in probe_rows._pooled(source, HookPoint(0), parts).items():
        expected, samples = pool_tokens(x_ND[parts[key].row], parts[key].sample_id.astype(str))
        assert names.tolist() == samples.tolist()
        np.testing.assert_allclose(means, expected, atol=1e-12)


def test_the_same_activations_in_both_languages_are_probed_once_with_the_same_row() -> None:
    rng = np.random.default_rng(1)
    cluster_N = np.repeat(np.arange(30), 4)

    def rows(shift: float) -> ProbeRows:
        return ProbeRows(rng.normal(size=(120, 5)) + shift, cluster_N % 2 == 0, np.arange(120), cluster_N, cluster_N)

    image, decision = rows(0.0), {language: rows(1.0) for language in ("en", "ar")}
    places = {ProbePlace(language, "image", 0): image for language in ("en", "ar")}
    places |= {ProbePlace(language, "decision", 0): decision[language] for language in ("en", "ar")}
    once = probe_rows._read_once(TransformerProbeAnalyzer(n_control=3, n_permutations=19), places, seed=2)
    assert once == TransformerProbeAnalyzer(n_control=3, n_permutations=19).read(places, seed=2, transfer=False)


def test_a_picture_that_cannot_be_opened_is_left_out_of_the_pixels(source: Source, tmp_path: Path) -> None:
    samples = {}
    for number, gender in enumerate("FMFMA"):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
        samples[f"s{number}"] = {"visual_gender": gender, "image_path": str(path), "cluster_id": f"c{number}", "context": "", "style": "", "skin_tone": ""}
    whole = probe_rows._pixel_rows(replace(source, samples=samples))
    Path(samples["s1"]["image_path"]).write_bytes(b"junk")
    left = probe_rows._pixel_rows(replace(source, samples=samples))
    assert list(left.image_N) == ["s0", "s2", "s3"] and np.array_equal(left.x_ND, whole.x_ND[[0, 2, 3]])
