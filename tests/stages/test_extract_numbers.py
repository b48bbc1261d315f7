"""What extraction keeps is what the model computes for each caption alone, whatever is shared, batched, chosen or left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from saebias.identifiers import HookPoint
from saebias.report import SilentReporter
from saebias.stages.extract import fill_shard
from saebias.stages.extract_beginnings import shared_columns
from saebias.stages.extract_plan import Sample
from saebias.vlm.forward import activations
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel
from tests.stages.extract_rig import CAPTIONS, SETS, config_for, corpus, filled, job_of
from tests.vlm.families import ALL_FAMILIES, IMAGE_FAMILIES, build_family

SITES = "extract.sites=[resid_post,attn_out,mlp_out]"


def alone(loaded: LoadedModel, sample: Sample, prompt: str, caption: str, hooks: list[HookPoint]) -> tuple[np.ndarray, Any]:
    """Activations (T, L, D) of one caption in a batch of its own, nothing shared."""
    with Image.open(sample.image_path) as image:
        images = None if loaded.processor is None else [image.convert("RGB")]
        inputs = build_inputs(loaded, images, [prompt], [caption])
    found = activations(loaded, inputs, hooks)
    return np.stack([found[hook][0].numpy() for hook in hooks], axis=1), inputs


def assert_close(one: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(one - other).max() <= 2e-5 * max(1.0, np.abs(other).max())


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_kept_vector_is_that_of_its_token_run_alone(family: str, tmp_path: Path) -> None:
    loaded = build_family(family)
    # Some captions come twice: what they have in common is run once.
    cfg, samples = config_for(loaded), corpus(tmp_path, [*CAPTIONS, *CAPTIONS[:2]])
    done = filled(loaded, cfg, samples)
    vectors, seen = done.vectors(), 0
    for sample in samples:
        for language, caption in zip(("en", "ar"), sample.captions, strict=True):
            prompt = {"en": cfg.model.prompt_en, "ar": cfg.model.prompt_ar}[language]
            x_TLD, inputs = alone(loaded, sample, prompt, caption, done.job.hooks)
            rows = [row for row in done.index if (row["sample_id"], row["language"]) == (sample.sample_id, language)]
            own = [row for row in rows if row["position"] < len(x_TLD) and row["token_id"] == int(inputs.input_ids_BT[0, row["position"]])]
            assert sorted(row["position"] for row in own) == list(range(len(x_TLD)))
            for row in own:
                assert_close(vectors[sample.sample_id, language, row["position"], row["token_id"], row["decision"]], x_TLD[row["position"]])
                seen += 1
            # A decision behind other words than the caption's own is run with those.
            assert sum(row["decision"] for row in rows) == 1
            assert len(rows) - len(own) <= 1
    assert 0 <= len(done.index) - seen <= len(done.status)
    assert len(done.index) == sum(n_rows for *_, n_rows in done.status.values())


@pytest.mark.parametrize("family", ["gemma3", "qwen2_vl", "mllama", "llama", "paligemma"])
def test_the_batch_changes_neither_the_index_nor_more_than_rounding(family: str, tmp_path: Path) -> None:
    loaded, samples = build_family(family), corpus(tmp_path)
    wide = filled(loaded, config_for(loaded, "runtime.token_budget=4096"), samples)
    narrow = filled(loaded, config_for(loaded, "runtime.token_budget=16", "runtime.batch_size=1"), samples)
    assert wide.index == narrow.index and wide.shard.status == narrow.shard.status
    assert_close(wide.shard.stored_NLD, narrow.shard.stored_NLD)


@pytest.mark.parametrize("family", ["gemma3", "qwen2_vl", "llama", "gemma3_text"])
def test_layers_that_nobody_asked_for_are_not_run_and_change_nothing(family: str, tmp_path: Path) -> None:
    loaded, samples = build_family(family), corpus(tmp_path, CAPTIONS * 2)
    whole = filled(loaded, config_for(loaded, "extract.pooled=true"), samples)
    ran: list[int] = []
    handles = [layer.register_forward_pre_hook(lambda *_, number=number: ran.append(number)) for number, layer in enumerate(loaded.adapter.layers)]
    first = filled(loaded, config_for(loaded, "extract.layers=[0]", "extract.pooled=true"), samples)
    for handle in handles:
        handle.remove()
    assert set(ran) == {0} and first.index == whole.index
    assert_close(first.shard.stored_NLD[:, 0], whole.shard.stored_NLD[:, 0])
    for shard in (first.shard, whole.shard):
        assert shard.pooled is not None
        shard.pooled.write(tmp_path / f"{len(shard.stored_NLD[0])}.safetensors", 0)
    pooled = [load_file(tmp_path / f"{n}.safetensors")["pooled"][:, 0] for n in (1, loaded.adapter.n_layers)]
    assert_close(pooled[0], pooled[1])


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=8), st.integers(1, 30))
def test_rows_are_cut_where_the_fewest_tokens_are_run(rows: list[tuple[int, ...]], budget: int) -> None:
    def tokens(columns: int) -> int:
        return columns * len({ids[:columns] for ids in rows}) + sum(len(ids) - columns for ids in set(rows))

    columns = shared_columns(rows, budget)
    allowed = [n for n in range(1, min(map(len, rows))) if n * len({ids[:n] for ids in rows}) <= budget]
    assert columns in (0, *allowed)
    assert tokens(columns) == min(map(tokens, (0, *allowed)))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "gemma3_text", "llava"])
def test_residual_stream_attention_and_mlp_add_up_through_the_whole_stage(family: str, tmp_path: Path) -> None:
    # For Gemma 3, attn_out and mlp_out are taken behind its post-norms, so that the law holds there as well.
    loaded = build_family(family)
    done = filled(loaded, config_for(loaded, SITES), corpus(tmp_path))
    at = {hook: number for number, hook in enumerate(done.job.hooks)}
    assert len(at) == 3 * loaded.adapter.n_layers
    x_NLD = done.shard.stored_NLD[[row["row"] for row in done.index]]
    for layer in range(1, loaded.adapter.n_layers):
        parts = [HookPoint(layer - 1), HookPoint(layer, "attn_out"), HookPoint(layer, "mlp_out")]
        assert_close(sum(x_NLD[:, at[hook]] for hook in parts), x_NLD[:, at[HookPoint(layer)]])


CHOICES = [
    ("extract.tokens.image=none",),
    ("extract.tokens.image=2",),
    ("extract.tokens.prompt=false", "extract.tokens.image=none"),
    ("extract.tokens.caption=false",),
    ("extract.tokens.prompt=false", "extract.tokens.caption=false", "extract.tokens.image=none", "extract.tokens.last=false"),
    ("extract.tokens.prompt=false", "extract.tokens.caption=false", "extract.tokens.image=none", "extract.tokens.decision=false"),
    ("extract.tokens.decision=false", "extract.tokens.last=false", "extract.tokens.caption=false"),
]


@pytest.mark.parametrize("overrides", CHOICES)
@pytest.mark.parametrize("family", ["gemma3", "paligemma", "llama"])
def test_what_is_chosen_is_a_part_of_the_whole_with_the_same_numbers(family: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    loaded, samples = build_family(family), corpus(tmp_path)
    cfg = config_for(loaded, *overrides)
    whole, part = filled(loaded, config_for(loaded), samples), filled(loaded, cfg, samples)
    every, chosen = whole.vectors(), part.vectors()
    assert set(chosen) <= set(every)
    for key, x_LD in chosen.items():
        assert_close(x_LD, every[key])
    tokens = cfg.extract.tokens
    wanted = {
        key
        for key, row in zip(every, whole.index, strict=True)
        if (row["token_kind"] == "image" and tokens.image == "all")
        or (row["token_kind"] == "prompt" and tokens.prompt)
        or (row["token_kind"] == "caption" and tokens.caption and not _extra(row, whole.index))
        or (row["decision"] and tokens.decision)
        or (row["last"] and tokens.last)
    }
    sampled = {key for key, row in zip(chosen, part.index, strict=True) if row["token_kind"] == "image"} if isinstance(tokens.image, int) else set()
    assert set(chosen) == wanted | sampled
    assert [row["row"] for row in part.index] == sorted(row["row"] for row in part.index)


def _extra(row: dict[str, Any], index: list[dict[str, Any]]) -> bool:
    """Whether the row was run for its decision alone, beside the caption's own token at that position."""
    same = [other for other in index if all(other[name] == row[name] for name in ("sample_id", "language", "position"))]
    return len(same) > 1 and row["decision"]


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_sampled_image_tokens_are_the_same_in_both_languages_and_differ_between_samples(family: str, tmp_path: Path) -> None:
    loaded = build_family(family)
    done = filled(loaded, config_for(loaded, "extract.tokens.image=3"), corpus(tmp_path, CAPTIONS * 3))
    again = filled(loaded, config_for(loaded, "extract.tokens.image=3"), corpus(tmp_path, CAPTIONS * 3))
    assert done.index == again.index
    kept = {language: {} for language in ("en", "ar")}
    for row in done.index:
        if row["token_kind"] == "image":
            kept[row["language"]].setdefault(row["sample_id"], []).append(row["position"])
    assert kept["en"] == kept["ar"] and {len(positions) for positions in kept["en"].values()} == {3}
    assert len({tuple(positions) for positions in kept["en"].values()}) > 1


def test_pictures_that_samples_share_go_through_the_vision_tower_once(tmp_path: Path) -> None:
    loaded, samples = build_family("gemma3"), corpus(tmp_path)
    shared = [Sample(s.sample_id, s.split, s.context, samples[0].image_path, s.size, s.captions) for s in samples]
    seen: list[int] = []
    tower = dict(loaded.model.base_model.named_children())["vision_tower"]
    handle = tower.register_forward_pre_hook(lambda _module, args, kwargs: seen.append(len(kwargs["pixel_values"] if kwargs else args[0])), with_kwargs=True)
    try:
        done = filled(loaded, config_for(loaded), shared)
    finally:
        handle.remove()
    assert seen == [1]
    vectors = done.vectors()
    for (sample_id, language, position, token, decision), x_LD in vectors.items():
        row = next(r for r in done.index if (r["sample_id"], r["language"], r["position"]) == (sample_id, language, position))
        if row["token_kind"] == "image":
            assert np.array_equal(x_LD, vectors["s0", "en", position, token, decision])


def test_means_are_those_of_the_tokens_whether_or_not_their_rows_are_kept(tmp_path: Path) -> None:
    for family in ("gemma3", "paligemma", "llama"):
        loaded, samples = build_family(family), corpus(tmp_path)
        whole = filled(loaded, config_for(loaded, "extract.pooled=true"), samples)
        assert whole.shard.pooled is not None
        rows = whole.shard.pooled.write(tmp_path / "pooled.safetensors", 0)
        from safetensors.numpy import load_file

        means_RLD = load_file(tmp_path / "pooled.safetensors")["pooled"]
        assert len(rows) == len(means_RLD)
        for row in rows:
            own = [
                r["row"] for r in whole.index if all(r[name] == row[name] for name in ("sample_id", "language", "token_kind")) and not _extra(r, whole.index)
            ]
            assert len(own) == row["n_tokens"]
            assert_close(means_RLD[row["row"]], whole.shard.stored_NLD[own].mean(0))
        few = filled(loaded, config_for(loaded, "extract.pooled=true", "extract.tokens.image=none", "extract.tokens.prompt=false"), samples)
        assert few.shard.pooled is not None
        assert few.shard.pooled.write(tmp_path / "few.safetensors", 0) == rows
        assert_close(load_file(tmp_path / "few.safetensors")["pooled"], means_RLD)


def test_the_decision_lies_where_woman_and_man_part(tmp_path: Path) -> None:
    loaded = build_family("gemma3")
    done = filled(loaded, config_for(loaded), corpus(tmp_path))
    for sample_id, language in done.status:
        rows = [row for row in done.index if (row["sample_id"], row["language"]) == (sample_id, language)]
        (decision,) = [row for row in rows if row["decision"]]
        (last,) = [row for row in rows if row["last"]]
        assert last["token_kind"] == "prompt" and last["position"] == max(row["position"] for row in rows if row["token_kind"] == "prompt")
        chosen = SETS["*", language]
        forms = [*chosen.female, *chosen.male, *()]
        ids = [loaded.tokenizer.encode(f": {form}", add_special_tokens=False)[1:] for form in forms]
        shared = next(n for n in range(99) if len({tuple(form[: n + 1]) for form in ids}) > 1)
        assert decision["position"] == last["position"] + shared
        behind = [row for row in rows if row["reads_caption"]]
        assert all(row["token_kind"] == "caption" and row["position"] > last["position"] for row in behind)
        assert not decision["reads_caption"]


def test_the_text_of_tokens_is_readable_in_both_languages(tmp_path: Path) -> None:
    loaded = build_family("gemma3")
    done = filled(loaded, config_for(loaded), corpus(tmp_path))
    texts = {row["token"] for row in done.index}
    assert any("ة" in text or "طباخ" in text for text in texts) and any("cook" in text for text in texts)
    assert Counter(row["prompt_id"][:2] == row["language"] for row in done.index) == {True: len(done.index)}
    assert torch.is_inference_mode_enabled() is False


def test_what_was_made_ready_for_another_shard_than_comes_next_changes_nothing(tmp_path: Path) -> None:
    loaded = build_family("gemma3")
    samples = corpus(tmp_path, CAPTIONS * 6)
    job = job_of(loaded, config_for(loaded, "extract.shard_rows=256"), samples)
    assert len(job.shards) >= 3
    with SilentReporter().task("", 0) as task:
        alone = {number: fill_shard(job, number, task) for number in range(3)}
        # The guess for the first is right, that for the second is wrong.
        guessed = {number: fill_shard(job, number, task, following) for number, following in ((0, 1), (1, 0), (2, None))}
    for number, shard in alone.items():
        assert np.array_equal(guessed[number].stored_NLD, shard.stored_NLD)
        assert guessed[number].token_rows.equals(shard.token_rows) and guessed[number].status == shard.status
