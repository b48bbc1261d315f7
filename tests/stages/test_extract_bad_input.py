"""Bad input gets one clear line, and takes nothing else with it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from saebias.config.load import load_config
from saebias.corpus.images import check_images
from saebias.errors import ConfigError, InputError
from saebias.report import SilentReporter
from saebias.stages.extract import fill_shard
from saebias.stages.extract_dry_run import timed_cost
from saebias.stages.extract_plan import plan_shards
from saebias.stages.extract_prompts import wordings
from saebias.stages.model_access import open_picture
from saebias.store.arrays import create_activations, write_shard
from saebias.vlm.loading import LoadedModel, from_parts
from tests.stages.extract_rig import CAPTIONS, config, config_for, corpus, filled, job_of, text_config
from tests.vlm.families import build_family


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_a_corrupt_picture_in_the_middle_fails_alone_and_moves_no_other_row(content: bytes | None, tmp_path: Path) -> None:
    loaded, samples = build_family("gemma3"), corpus(tmp_path)
    whole = filled(loaded, config(), samples)
    path = Path(samples[2].image_path)
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    broken = filled(loaded, config(), samples)
    assert [row for row in whole.index if row["sample_id"] != "s2"] == broken.index
    for key, (status, reason, n_rows) in broken.status.items():
        assert (status, n_rows) == (("failed", 0) if key[0] == "s2" else ("done", whole.status[key][2]))
        assert reason is None or f"picture {path} cannot be opened" in reason
    # The same files give the same status, word by word.
    assert filled(loaded, config(), samples).shard.status == broken.shard.status
    kept = [row["row"] for row in broken.index]
    assert np.allclose(whole.shard.stored_NLD[kept], broken.shard.stored_NLD[kept], atol=2e-5 * np.abs(broken.shard.stored_NLD).max())


def test_a_picture_that_is_another_than_prepare_saw_fails_alone(tmp_path: Path) -> None:
    loaded, samples = build_family("gemma3"), corpus(tmp_path)
    seen = [replace(sample, image_id=hashlib.sha256(Path(sample.image_path).read_bytes()).hexdigest()[:16]) for sample in samples]
    assert {status for status, *_ in filled(loaded, config(), seen).status.values()} == {"done"}
    # Another picture, of the same size: nothing but its bytes tells.
    Path(samples[1].image_path).write_bytes(Path(samples[0].image_path).read_bytes())
    status = filled(loaded, config(), seen).status
    failed = {key[0]: reason for key, (what, reason, _) in status.items() if what == "failed"}
    assert failed == {"s1": f"picture {samples[1].image_path} is not the one that prepare saw; put that one back, or run `saebias prepare` again"}


def test_a_missing_or_overlong_caption_fails_alone_with_the_reason(tmp_path: Path) -> None:
    loaded = build_family("gemma3")
    captions = [CAPTIONS[0], ("xyz " * 300, "طباخة"), (None, "طباخ"), ("an <image> of a woman", "طباخ"), CAPTIONS[1]]
    done = filled(loaded, config(), corpus(tmp_path, captions))
    failed = {key: reason for key, (status, reason, n_rows) in done.status.items() if status == "failed" and n_rows == 0}
    assert len(done.status) == 10 and set(failed) == {("s1", "en"), ("s2", "en"), ("s3", "en")}
    assert "longer than the model's context of 256 tokens" in str(failed["s1", "en"])
    assert failed["s2", "en"] == "the sample has no caption in language en"
    assert "holds the model's mark for a picture" in str(failed["s3", "en"])
    assert {(row["sample_id"], row["language"]) for row in done.index} == set(done.status) - set(failed)


def test_a_caption_with_the_mark_of_a_picture_or_of_nothing_fails_alone_inside_a_prompt(tmp_path: Path) -> None:
    loaded = build_family("gemma3")
    mark = loaded.processor.image_token
    captions = [CAPTIONS[0], (f"a {mark} woman", "طباخة"), (" ", "طباخ"), CAPTIONS[1]]
    overrides = ["extract.caption_in_prompt=true", 'extract.prompt_en="{image}{caption} describe:"', 'extract.prompt_ar="{image}{caption} صف:"']
    done = filled(loaded, config(*overrides), corpus(tmp_path, captions))
    failed = {key: reason for key, (status, reason, _) in done.status.items() if status == "failed"}
    assert "holds the model's mark for a picture" in str(failed.pop(("s1", "en")))
    assert set(failed) <= {("s2", "en")} and all("is not to be found" in str(reason) for reason in failed.values())
    assert {(row["sample_id"], row["language"]) for row in done.index} == {key for key, (status, *_) in done.status.items() if status == "done"}


@pytest.mark.parametrize("family", ["gemma3", "llama", "paligemma"])
@pytest.mark.parametrize(("before", "after"), [("", "."), ("see: ", ". so"), (" ", " "), ("see:  ", "")])
def test_captions_inside_a_prompt_that_is_not_kept_find_their_place(family: str, before: str, after: str, tmp_path: Path) -> None:
    loaded = build_family(family)
    text = ("" if loaded.processor is None else "{image}") + before + "{caption}" + after
    overrides = ["extract.caption_in_prompt=true", "extract.tokens.prompt=false", f'extract.prompt_en="{text}"', f'extract.prompt_ar="{text}"']
    alone = ["extract.tokens.image=none", "extract.tokens.last=false", "extract.tokens.decision=false"]
    done = filled(loaded, config_for(loaded, *overrides, *alone), corpus(tmp_path))
    assert {status for status, *_ in done.status.values()} == {"done"} and len(done.index) > 0


def test_a_language_that_nobody_wrote_captions_in_has_no_status(tmp_path: Path) -> None:
    done = filled(build_family("llama"), text_config(), corpus(tmp_path, [(en, None) for en, _ in CAPTIONS]))
    assert {language for _, language in done.status} == {"en"}


def test_pictures_of_different_sizes_are_planned_each_as_its_size(tmp_path: Path) -> None:
    loaded = build_family("qwen2_vl")
    samples = corpus(tmp_path) + [replace(s, sample_id=f"w{s.sample_id}") for s in corpus(tmp_path / "", CAPTIONS[:2])]
    folder = tmp_path / "wide"
    folder.mkdir()
    wide = [replace(sample, sample_id=f"wide-{sample.sample_id}") for sample in corpus(folder, size=(64, 32))]
    done = filled(loaded, config(), [*samples, *wide])
    assert {status for status, *_ in done.status.values()} == {"done"}
    n_image = {row["sample_id"]: 0 for row in done.index}
    for row in done.index:
        n_image[row["sample_id"]] += row["token_kind"] == "image" and row["language"] == "en"
    assert {n for sample, n in n_image.items() if sample.startswith("wide")} == {8} and n_image["s0"] == 4
    # A picture that grew since it was checked takes more rows than planned: it fails, the others stay.
    lying = [replace(sample, size=(32, 32)) for sample in wide]
    again = filled(loaded, config(), [*samples, *lying])
    assert {key[0].startswith("wide") for key, (status, *_) in again.status.items() if status == "failed"} == {True}
    assert "its picture changed since prepare" in str(again.status["wide-s0", "en"][1])


def test_a_prompt_without_image_slot_names_its_key(tmp_path: Path) -> None:
    loaded, samples = build_family("gemma3"), corpus(tmp_path)
    for key in ("model.prompt_ar", "extract.prompt_ar"):
        with pytest.raises(InputError, match=rf"^{key}: .* has 0 image slots; write \{{image\}} once"):
            filled(loaded, config(f'{key}="صف:"'), samples)
    with pytest.raises(InputError, match=r"^model\.prompt_en: .* has an image slot but no picture is given"):
        filled(build_family("llama"), config('model.prompt_ar="a"'), samples)
    with pytest.raises(InputError, match=r"^model\.prompt_en: is empty, and the model's tokenizer puts no token in front"):
        filled(build_family("qwen2"), text_config('model.prompt_en=""'), samples)
    # The default instruction has its slot removed for a model that reads text only.
    words = wordings(load_config(None, ["model.name=x"]), build_family("llama"))
    assert words["en"].rendered == "Describe the picture in one sentence." and "{image}" not in words["ar"].rendered


def test_the_caption_in_the_prompt_needs_its_slot_and_every_row_behind_it_says_so(tmp_path: Path) -> None:
    samples = corpus(tmp_path)
    loaded = build_family("gemma3")
    with pytest.raises(InputError, match=r"0 caption slots and extract\.caption_in_prompt=True; write \{caption\} once in extract\.prompt_en"):
        filled(loaded, config("extract.caption_in_prompt=true"), samples)
    with pytest.raises(InputError, match=r"1 caption slots and extract\.caption_in_prompt=False; remove"):
        filled(loaded, config('extract.prompt_en="{image}{caption}"'), samples)
    for family, en, ar in (
        ("gemma3", "{image}see: {caption} so describe:", "{caption} {image}صف:"),
        ("paligemma", "{image}see: {caption}", "{image}صف: {caption}."),
        ("llama", "see: {caption} so describe:", "صف: {caption}:"),
    ):
        loaded = build_family(family)
        cfg = config_for(loaded, "extract.caption_in_prompt=true", f'extract.prompt_en="{en}"', f'extract.prompt_ar="{ar}"')
        done = filled(loaded, cfg, samples)
        assert {status for status, *_ in done.status.values()} == {"done"}
        for sample_id, language in done.status:
            rows = [row for row in done.index if (row["sample_id"], row["language"]) == (sample_id, language)]
            inside = [row for row in rows if row["token_kind"] == "caption" and not row["decision"]]
            text = loaded.tokenizer.decode([row["token_id"] for row in inside])
            caption = samples[int(sample_id[1:])].captions[language == "ar"]
            assert caption is not None and caption in text and len(text) <= len(caption) + 3
            first = min(row["position"] for row in inside)
            assert {row["reads_caption"] for row in rows if row["position"] >= first} == {True}
            assert {row["reads_caption"] for row in rows if row["position"] < first} <= {family == "paligemma"}
            assert sum(row["decision"] for row in rows) == sum(row["last"] for row in rows) == 1


def blown_up(family: str, dtype: torch.dtype, factor: float) -> LoadedModel:
    """The family with one MLP's output weights so large that its layer leaves the range of `dtype`."""
    built = build_family(family)
    import copy

    model = copy.deepcopy(built.model).to(dtype)
    loaded = from_parts(model, built.tokenizer, built.processor, name="blown-up")
    with torch.no_grad():
        loaded.adapter.layers[1].mlp.down_proj.weight.mul_(factor)
    return loaded


@pytest.mark.parametrize(
    ("dtype", "factor", "stored"),
    [(torch.float16, 3e4, "float32"), (torch.bfloat16, 1e38, "bfloat16"), (torch.float32, 1e38, "bfloat16"), (torch.float32, 1e38, "float32")],
)
def test_a_number_format_that_overflows_names_sample_layer_and_format(dtype: torch.dtype, factor: float, stored: str, tmp_path: Path) -> None:
    loaded = blown_up("llama", dtype, factor)
    name = str(dtype).removeprefix("torch.")
    cfg = text_config(f"model.dtype={name}", f"extract.dtype={stored}")
    with pytest.raises(InputError, match=rf"sample s\d \((en|ar)\): activations at L01\.resid_post are not finite in {name} \(stored as {stored}\)"):
        filled(loaded, cfg, corpus(tmp_path))
    assert not loaded.adapter.layers[1]._forward_hooks


def test_a_value_that_only_bfloat16_cannot_hold_is_refused_and_not_kept_as_infinity(tmp_path: Path) -> None:
    from saebias.identifiers import HookPoint
    from saebias.stages.extract_rows import Row

    done = filled(build_family("llama"), text_config("extract.dtype=bfloat16"), corpus(tmp_path))
    extractor = done.job.extractor
    item = done.job.shards[0][0]
    row = Row(item, 0, None, (), 0, True, True, *[np.zeros(1, int)] * 4)  # type: ignore[arg-type]
    stored = np.zeros((1, 2), np.uint16)
    # The largest float32 rounds up to infinity in bfloat16.
    x = torch.tensor([[1.0, float(np.finfo(np.float32).max)]])
    with pytest.raises(InputError, match=r"sample s0 \(en\): activations at L00\.resid_post are not finite in float32 \(stored as bfloat16\)"):
        extractor._store(x, HookPoint(0), np.array([0]), np.array([0]), [row], stored)
    # Values whose sum overflows are finite all the same; of two that are not, and cancel, the place is still named.
    extractor._store(torch.full((1, 2), 3e38), HookPoint(0), np.array([0]), np.array([0]), [row], stored)
    assert torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16).equal(torch.full((1, 2), 3e38, dtype=torch.bfloat16))
    with pytest.raises(InputError, match="not finite"):
        extractor._store(torch.tensor([[torch.inf, -torch.inf]]), HookPoint(0), np.array([0]), np.array([0]), [row], stored)


def test_the_old_key_says_what_it_is_called_now() -> None:
    with pytest.raises(ConfigError, match=r"key extract\.image_tokens is now called extract\.tokens\.image"):
        load_config(None, ["extract.image_tokens=none"])
    with pytest.raises(ConfigError, match="no kind of token is kept"):
        load_config(None, ["extract.tokens={image: none, prompt: false, caption: false, decision: false, last: false}"])
    with pytest.raises(ConfigError, match="image"):
        load_config(None, ["extract.tokens.image=0"])


def test_a_caption_longer_than_a_shard_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    loaded = build_family("gemma3")
    cfg = config("extract.shard_rows=256")
    samples = corpus(tmp_path, [("cook " * 400, None)])
    wide = replace(loaded, adapter=replace(loaded.adapter, max_positions=10_000))
    with pytest.raises(InputError, match=r"sample s0: its en caption takes \d+ rows, more than extract\.shard_rows=256; raise that"):
        plan_shards(cfg, wide, samples, wordings(cfg, wide))


def test_a_shard_all_of_whose_captions_failed_is_kept_with_their_reasons(tmp_path: Path) -> None:
    loaded, samples = build_family("gemma3"), corpus(tmp_path)
    for sample in samples:
        Path(sample.image_path).unlink()
    done = filled(loaded, config("extract.pooled=true"), samples)
    assert done.index == [] and {(status, n_rows) for status, _, n_rows in done.status.values()} == {("failed", 0)}
    assert len(done.status) == 2 * len(samples) and not done.shard.stored_NLD.any()
    assert done.shard.pooled is not None and done.shard.pooled.write(tmp_path / "pooled", 0) == []


@pytest.mark.parametrize(("format_name", "value"), [("AVIF", 0), ("DDS", 0), ("PNG", 255), ("TIFF", 255), ("WEBP", 255), ("GIF", 255)])
def test_damage_anywhere_in_a_picture_is_a_reason_and_no_error_of_the_program(format_name: str, value: int, tmp_path: Path) -> None:
    from PIL import Image, features

    if format_name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / "picture"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path, format_name)
    whole = path.read_bytes()
    reasons: set[str] = set()
    for place in range(0, min(len(whole), 320)):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        opened, checked = open_picture(str(path)), check_images([path], full_decode=True)[0]
        reasons |= {opened} if isinstance(opened, str) else set()
        assert checked.ok or checked.reason
    assert reasons and all(reason.startswith(f"picture {path} cannot be opened: ") for reason in reasons)


def test_an_estimate_of_a_single_batch_counts_it_once_and_says_so(tmp_path: Path) -> None:
    job = job_of(build_family("llama"), text_config("extract.dtype=bfloat16"), corpus(tmp_path, CAPTIONS * 6))
    assert len(job.batches(0)) == 1
    cost = timed_cost(job)
    with SilentReporter().task("", 0) as task:
        shard = fill_shard(job, 0, task)
    create_activations(tmp_path / "whole.zarr", job.hooks, 1024, shard.stored_NLD.shape[2], dtype="bfloat16", shard_rows=1024)
    size = write_shard(tmp_path / "whole.zarr", 0, shard.stored_NLD).stat().st_size
    assert cost.rows == shard.token_rows.num_rows and cost.basis.startswith(f"one timed batch of {cost.rows:,} rows, 100.0%")
    assert sum(hook.disk_bytes for hook in cost.hooks) == pytest.approx(size, rel=0.1)


def test_an_estimate_times_captions_that_can_be_used_or_says_why_none_can(tmp_path: Path) -> None:
    loaded = build_family("gemma3")
    samples = corpus(tmp_path, [("cook " * 300, None)] * 8 + [CAPTIONS[0]])
    cost = timed_cost(job_of(loaded, config("runtime.batch_size=1"), samples))
    assert (cost.refused, cost.captions) == (16, 18) and cost.rows > 0
    Path(samples[-1].image_path).unlink()
    with pytest.raises(InputError, match=r"none of the \d+ captions that were timed can be used; the first: picture .* cannot be opened"):
        timed_cost(job_of(loaded, config("runtime.batch_size=1"), samples))
    # Where nobody named female and male captions there is no decision, and of the captions nothing is left to keep.
    kinds = [f"extract.tokens.{kind}" for kind in ("image=none", "prompt=false", "caption=false", "last=false")]
    job = job_of(loaded, config(*kinds), corpus(tmp_path))
    job.extractor._closed_sets = {}
    with pytest.raises(InputError, match=r"no token of it is of a kind that extract\.tokens keeps"):
        timed_cost(job)
