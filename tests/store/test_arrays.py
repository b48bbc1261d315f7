"""Activation arrays: what is read is what was written, to bfloat16."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from saebias.errors import StoreError
from saebias.identifiers import HookPoint
from saebias.store.arrays import ActivationArray, as_stored, create_activations, shard_file, write_shard

HOOKS = [HookPoint(0), HookPoint(3)]
D, SHARD = 16, 512


def made(path: Path, n_rows: int, dtype: str = "bfloat16") -> None:
    create_activations(path, HOOKS, n_rows, D, dtype=dtype, shard_rows=SHARD)


def test_bfloat16_rounds_as_torch_does(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(SHARD, 2, D)).astype(np.float32) * 10.0 ** np.random.default_rng(1).integers(-20, 20, size=(SHARD, 2, D))
    x = x.astype(np.float32)
    made(tmp_path / "a.zarr", SHARD)
    write_shard(tmp_path / "a.zarr", 0, x)
    read = ActivationArray(tmp_path / "a.zarr").read(HOOKS[1])
    assert np.array_equal(read, torch.from_numpy(x[:, 1]).bfloat16().float().numpy())


def test_float32_is_kept_exactly_and_the_last_shard_may_be_short(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(SHARD + 100, 2, D)).astype(np.float32)
    made(tmp_path / "a.zarr", len(x), "float32")
    write_shard(tmp_path / "a.zarr", 1, x[SHARD:])
    write_shard(tmp_path / "a.zarr", 0, x[:SHARD])
    array = ActivationArray(tmp_path / "a.zarr")
    assert np.array_equal(array.read(HOOKS[0]), x[:, 0])
    rows = np.sort(np.random.default_rng(2).choice(len(x), 77, replace=False))
    assert np.array_equal(array.read_rows(HOOKS[1], rows), x[rows, 1])


@pytest.mark.parametrize(("shard_rows", "d_model"), [(256, 16), (768, 192), (16_384, 192), (16_384, 640), (2**17, 8), (16_384, 8192)])
def test_chunks_divide_the_shard_and_are_as_large_as_their_limits_allow(shard_rows: int, d_model: int, tmp_path: Path) -> None:
    create_activations(tmp_path / "a.zarr", HOOKS, shard_rows, d_model, dtype="bfloat16", shard_rows=shard_rows)
    form = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    rows, one, width = form["codecs"][0]["configuration"]["chunk_shape"]
    assert (one, width) == (1, d_model) and shard_rows % rows == 0 and rows >= 256
    fits = [k for k in (256 * 2**n for n in range(12)) if shard_rows % k == 0 and k <= 2**14 and (k == 256 or k * d_model * 2 <= 2**20)]
    assert rows == max(fits)


def test_an_all_zero_shard_leaves_a_file(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr", SHARD)
    file = write_shard(tmp_path / "a.zarr", 0, np.zeros((SHARD, 2, D), np.float32))
    assert file == shard_file(tmp_path / "a.zarr", 0) and file.stat().st_size > 0


def test_a_store_of_another_form_is_never_overwritten(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr", SHARD)
    made(tmp_path / "a.zarr", SHARD)
    with pytest.raises(StoreError, match="another form"):
        made(tmp_path / "a.zarr", 2 * SHARD)


def test_a_hook_point_that_was_not_kept_names_those_that_were(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr", SHARD)
    with pytest.raises(StoreError, match=r"L01\.resid_post was not extracted; kept are L00\.resid_post, L03\.resid_post"):
        ActivationArray(tmp_path / "a.zarr").read(HookPoint(1))
    with pytest.raises(StoreError, match="run `saebias extract` first"):
        ActivationArray(tmp_path / "b.zarr")


def test_a_flipped_bit_is_found_and_a_torn_shard_can_be_written_again(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr", SHARD)
    x = np.random.default_rng(0).normal(size=(SHARD, 2, D)).astype(np.float32)
    file = write_shard(tmp_path / "a.zarr", 0, x)
    content = bytearray(file.read_bytes())
    content[100] ^= 4
    file.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        ActivationArray(tmp_path / "a.zarr").read(HOOKS[0])
    file.write_bytes(content[:50])
    write_shard(tmp_path / "a.zarr", 0, x)
    assert np.abs(ActivationArray(tmp_path / "a.zarr").read(HOOKS[0]) - x[:, 0]).max() < 0.02


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shape": [512]}', "\x00\xff"])
def test_a_torn_description_of_the_array_is_one_line_and_is_made_again_as_it_was(text: str, tmp_path: Path) -> None:
    made(tmp_path / "a.zarr", SHARD)
    x = np.random.default_rng(0).normal(size=(SHARD, 2, D)).astype(np.float32)
    write_shard(tmp_path / "a.zarr", 0, x)
    whole = (tmp_path / "a.zarr" / "zarr.json").read_bytes()
    (tmp_path / "a.zarr" / "zarr.json").write_text(text)
    with pytest.raises(StoreError, match=r"zarr\.json: is torn; run `saebias extract` again"):
        ActivationArray(tmp_path / "a.zarr")
    made(tmp_path / "a.zarr", SHARD)
    assert (tmp_path / "a.zarr" / "zarr.json").read_bytes() == whole
    assert np.abs(ActivationArray(tmp_path / "a.zarr").read(HOOKS[0]) - x[:, 0]).max() < 0.02


def test_a_store_by_another_model_or_revision_is_never_written_into(tmp_path: Path) -> None:
    path, model = tmp_path / "a.zarr", {"name": "m", "revision": "r1", "digest": "1"}
    create_activations(path, HOOKS, SHARD, D, dtype="bfloat16", shard_rows=SHARD, model=model)
    create_activations(path, HOOKS, SHARD, D, dtype="bfloat16", shard_rows=SHARD, model=model)
    for change in ({"name": "n"}, {"revision": "r2"}, {"digest": "2"}):
        with pytest.raises(StoreError, match=r"another model or revision \(name m, revision r1, digest 1; now it is .*\); run `saebias extract --force`"):
            create_activations(path, HOOKS, SHARD, D, dtype="bfloat16", shard_rows=SHARD, model={**model, **change})


def test_what_is_given_as_it_is_stored_is_stored_as_it_is(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(SHARD, 2, D)).astype(np.float32)
    made(tmp_path / "a.zarr", SHARD)
    write_shard(tmp_path / "a.zarr", 0, torch.from_numpy(x).bfloat16().view(torch.int16).numpy().view(np.uint16))
    made(tmp_path / "b.zarr", SHARD)
    write_shard(tmp_path / "b.zarr", 0, x)
    assert np.array_equal(ActivationArray(tmp_path / "a.zarr").read(HOOKS[1]), ActivationArray(tmp_path / "b.zarr").read(HOOKS[1]))
    assert as_stored("bfloat16", (1, 2, 3)).dtype == np.uint16 and as_stored("float32", (1, 2, 3)).dtype == np.float32
