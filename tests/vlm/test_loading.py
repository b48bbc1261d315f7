"""Loading gives the same model as in memory, and every failure is one line that says what to do."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError
from safetensors.torch import load_file, save_file

from saebias.errors import ModelError
from saebias.vlm.forward import forward
from saebias.vlm.gguf_weights import write_sums
from saebias.vlm.loading import LoadedModel, OutOfMemory, _hub_errors, load_model, memory_errors
from saebias.vlm.placement import Placement
from saebias.vlm.threads import usable_cores
from tests.vlm.families import build_family
from tests.vlm.rows import assert_same, batch


def _save(loaded: LoadedModel, folder: Path, **options: str) -> Path:
    loaded.model.save_pretrained(folder, **options)
    (loaded.tokenizer if loaded.processor is None else loaded.processor).save_pretrained(folder)
    return folder


def _one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# What the hub client's errors want of an HTTP answer.
ANSWER: Any = SimpleNamespace(headers={}, request=None)


def test_a_saved_model_loads_as_it_was(family: LoadedModel, images: list, tmp_path: Path) -> None:
    folder = _save(family, tmp_path)
    if family.adapter.family == "smolvlm" and find_spec("num2words") is None:
        with pytest.raises(ModelError, match="needs a package that is not installed: Package `num2words`"):
            load_model(folder)
        return
    loaded = load_model(folder)
    assert torch.equal(forward(loaded, batch(loaded, images)), forward(family, batch(family, images)))
    assert not loaded.model.training
    assert loaded.name == str(tmp_path)
    assert len(loaded.digest) == 64


def test_the_digest_is_that_of_the_weights_content(gemma3: LoadedModel, tmp_path: Path) -> None:
    one, other = _save(gemma3, tmp_path / "one"), _save(gemma3, tmp_path / "other")
    assert load_model(one).digest == load_model(other).digest
    weights = load_file(other / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert load_model(one).digest != load_model(other).digest


def test_weights_come_in_the_number_format_asked_for(gemma3: LoadedModel, images: list, tmp_path: Path) -> None:
    loaded = load_model(_save(gemma3, tmp_path), dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16
    logits = forward(loaded, batch(loaded, images))
    plain = forward(gemma3, batch(gemma3, images))
    assert float((logits.float() - plain).abs().mean()) < 0.1 * float(plain.std())
    with pytest.raises(ModelError, match="unknown dtype 'int4'; choose one of float32, bfloat16, float16, auto"):
        load_model(tmp_path, dtype="int4")


def test_a_model_that_is_not_here_names_the_command_that_fetches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as error:
        load_model("google/gemma-3-4b-it", revision="abc123", offline=True)
    assert "`hf download google/gemma-3-4b-it --revision abc123`" in _one_line(error)


def test_a_folder_that_is_not_there_or_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelError, match=r"has no config.json.*it holds notes\.txt") as error:
        load_model(tmp_path)
    _one_line(error)


def test_missing_weight_files_are_named(gemma3: LoadedModel, tmp_path: Path) -> None:
    folder = _save(gemma3, tmp_path, max_shard_size="20KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 2
    assert load_model(folder).digest
    for shard in shards[1:3]:
        shard.unlink()
    with pytest.raises(ModelError) as error:
        load_model(folder)
    assert f"missing {shards[1].name}, {shards[2].name}" in _one_line(error)
    for rest in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        rest.unlink()
    with pytest.raises(ModelError, match="no weight file"):
        load_model(folder)


def test_a_weight_file_that_was_cut_short_is_named_with_its_size(gemma3: LoadedModel, tmp_path: Path) -> None:
    folder = _save(gemma3, tmp_path)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for rest, expected in ((whole[:-4], f"model.safetensors has {len(whole) - 4:,} bytes of {len(whole):,}"), (whole[:1000], "cut short at 1,000 bytes")):
        path.write_bytes(rest)
        with pytest.raises(ModelError, match=expected) as error:
            load_model(folder)
        assert str(folder) in _one_line(error)


def test_a_weight_file_that_is_not_the_recorded_one_is_refused(gemma3: LoadedModel, tmp_path: Path) -> None:
    folder = _save(gemma3, tmp_path)
    write_sums(folder)
    assert load_model(folder).digest
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not the file that was recorded in SHA256SUMS") as error:
        load_model(folder)
    _one_line(error)


def _cached(loaded: LoadedModel, cache: Path, repository: str, commit: str, **options: str) -> Path:
    """A model as the hub client keeps it: a snapshot folder of a commit, and `main` pointing to it."""
    base = cache / f"models--{repository.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit)
    snapshot = base / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return _save(loaded, snapshot, **options)


def test_a_cached_hub_model_loads_offline_and_an_incomplete_one_is_named_file_by_file(
    gemma3: LoadedModel, images: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    # The hub client reads its folder once, when it is imported; transformers and huggingface_hub both look it up by name afterwards.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = _cached(gemma3, tmp_path, "someone/tiny", commit, max_shard_size="20KB")
    for revision in (None, commit):
        loaded = load_model("someone/tiny", revision=revision, offline=True)
        assert loaded.digest == commit
        assert torch.equal(forward(loaded, batch(loaded, images)), forward(gemma3, batch(gemma3, images)))
    shards = sorted(snapshot.glob("*.safetensors"))
    content = shards[0].read_bytes()
    shards[0].write_bytes(content[:-8])
    with pytest.raises(ModelError, match=f"{shards[0].name} has {len(content) - 8:,} bytes of {len(content):,}.*`hf download someone/tiny`"):
        load_model("someone/tiny", offline=True)
    for shard in shards[1:3]:
        shard.unlink()
    with pytest.raises(ModelError) as error:
        load_model("someone/tiny", revision=commit, offline=True)
    assert f"missing {shards[1].name}, {shards[2].name}; finish the download with `hf download someone/tiny --revision {commit}`" in _one_line(error)


def test_the_environment_can_forbid_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set in the environment") as error:
        load_model("google/gemma-3-4b-it", offline=False)
    assert "`hf download google/gemma-3-4b-it`" in _one_line(error)


def test_hardware_options_that_this_machine_lacks_say_what_is_missing(gemma3: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _save(gemma3, tmp_path)
    monkeypatch.setattr("saebias.vlm.placement.find_spec", lambda name: None)
    for placement, expected in (
        (Placement(quantization="4bit"), r"model\.quantization=4bit needs the package bitsandbytes.*saebias\[quant\]"),
        (Placement(attention="flash_attention_2"), "needs the package flash_attn"),
        (Placement(quantization="2bit"), "choose one of none, 8bit, 4bit"),
        (Placement(attention="quick"), "choose one of sdpa, flash_attention_2, eager"),
    ):
        with pytest.raises(ModelError, match=expected) as error:
            load_model(folder, placement=placement)
        _one_line(error)
    monkeypatch.setattr("saebias.vlm.placement.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ModelError, match=r"needs a CUDA GPU and this machine has none; set model\.quantization=none"):
        load_model(folder, placement=Placement(quantization="8bit"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ModelError, match=r"not float32; set model\.dtype=bfloat16"):
        load_model(folder, placement=Placement(attention="flash_attention_2"))


def test_attention_kernels_and_device_maps_change_no_logit(gemma3: LoadedModel, images: list, tmp_path: Path) -> None:
    folder = _save(gemma3, tmp_path)
    plain = forward(gemma3, batch(gemma3, images))
    for placement in (Placement(attention="eager"), Placement(attention="sdpa"), Placement(device_map="auto")):
        loaded = load_model(folder, placement=placement)
        assert_same(forward(loaded, batch(loaded, images)), plain)


def test_weights_that_lack_a_tensor_are_refused(gemma3: LoadedModel, tmp_path: Path) -> None:
    folder = _save(gemma3, tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layers.1.mlp.up_proj" in name)
    save_file({key: value for key, value in weights.items() if key != name}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors .*layers\.1\.mlp\.up_proj"):
        load_model(folder)
    save_file(weights | {name: weights[name][:, :5].contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj"):
        load_model(folder)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="wav2vec2 model, which is neither"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ModelError) as error:
        load_model(tmp_path)
    assert "no_such_model" in _one_line(error)


def test_gated_models_and_wrong_revisions_say_what_to_do() -> None:
    with (
        pytest.raises(ModelError, match=r"is gated: accept its terms.*hf auth login.*hf download google/gemma-3-4b-it"),
        _hub_errors("google/gemma-3-4b-it", None),
    ):
        raise GatedRepoError("403", response=ANSWER)
    with pytest.raises(ModelError, match="has no revision 'xyz'"), _hub_errors("google/gemma-3-4b-it", "xyz"):
        raise RevisionNotFoundError("404", response=ANSWER)


def test_failed_allocations_become_out_of_memory() -> None:
    for error in (MemoryError(), torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")):
        with pytest.raises(OutOfMemory, match=r"out of memory while running; lower runtime\.batch_size"), memory_errors("running"):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("running"):
        raise RuntimeError("shapes do not match")


def test_a_real_allocation_that_fails_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory), memory_errors("allocating"):
        torch.empty(1 << 55)


@pytest.mark.parametrize(
    ("asked", "cores"), [(None, None), ("1", 1), ("1,4", 1), (" 1 ", 1), ("100000", None), ("0", None), ("-1", None), ("many", None), ("", None)]
)
def test_the_cores_that_may_be_used_are_those_allowed_or_fewer_where_asked(asked: str | None, cores: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert usable_cores() == (len(os.sched_getaffinity(0)) if cores is None else cores)


def test_a_model_without_end_token_says_so() -> None:
    loaded = build_family("llama")
    eos = loaded.model.generation_config.eos_token_id
    loaded.model.generation_config.eos_token_id = [1, 5]
    try:
        assert loaded.eos_token_ids == (1, 5)
    finally:
        loaded.model.generation_config.eos_token_id = eos
