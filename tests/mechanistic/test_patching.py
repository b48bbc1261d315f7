"""Laws of patching: everything patched is the other run, nothing patched is the own run, and a planted pathway is found where it was planted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from saebias.errors import InputError
from saebias.identifiers import SITES, HookPoint
from saebias.mechanistic.decisions import Decisions, decisions_of, gap_under
from saebias.mechanistic.patching import GapsOfPatches, PatchPlace, join_batches, patch_rows, patch_scenes
from saebias.mechanistic.scene_runs import ScenePair, replace_with, started_at
from saebias.mechanistic.tower_patching import patch_tower, tower_blocks
from saebias.vlm.forward import Edit, activations
from saebias.vlm.images import ImageFeatures, encode_images
from saebias.vlm.loading import LoadedModel
from saebias.vlm.scoring import decision_gap

N = 4
PROMPTS = {"en": "{image}describe ", "ar": "{image}say more of it "}
# The first row's beginnings share a token more than the others', so that rows decide at different columns.
FEMALE = [["ab"], ["b"], ["b"], ["b", "d"]]
MALE = [["ac"], ["c"], ["c"], ["c"]]


def pictures(seed: int) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(N)]


def asked(loaded: LoadedModel, features: ImageFeatures) -> dict[str, Decisions]:
    return {language: decisions_of(loaded, features, [prompt] * N, FEMALE, MALE) for language, prompt in PROMPTS.items()}


def scene_pairs(loaded: LoadedModel, woman: int = 1, man: int = 2) -> dict[str, ScenePair]:
    women, men = (asked(loaded, encode_images(loaded, pictures(seed))) for seed in (woman, man))
    return {language: ScenePair(women[language], men[language]) for language in PROMPTS}


def all_hooks(loaded: LoadedModel) -> list[HookPoint]:
    return [HookPoint(layer, site) for layer in range(loaded.adapter.n_layers) for site in SITES]


@pytest.fixture(scope="module", params=["gemma3", "paligemma", "qwen2_vl"])
def loaded(request: pytest.FixtureRequest, build_family: Callable[[str], LoadedModel]) -> LoadedModel:
    return build_family(request.param)


def test_the_gap_at_the_deciding_token_is_that_of_scoring_the_texts(build_family: Callable[[str], LoadedModel]) -> None:
    loaded = build_family("gemma3")
    decisions = asked(loaded, encode_images(loaded, pictures(1)))["en"]
    assert len(set(decisions.column_N.tolist())) == 2
    # Texts of one token beyond what they share: their probabilities are those of the deciding token.
    from saebias.vlm.inputs import build_inputs

    scored = decision_gap(loaded, build_inputs(loaded, pictures(1), [PROMPTS["en"]] * N), FEMALE, MALE)
    np.testing.assert_allclose(gap_under(loaded, decisions).numpy(), scored, atol=1e-4)


def test_everything_patched_is_the_womans_run_and_its_own_activations_change_nothing(loaded: LoadedModel) -> None:
    streams = [HookPoint(layer) for layer in range(loaded.adapter.n_layers)]
    for gaps in patch_scenes(loaded, scene_pairs(loaded), streams, ["all"]).values():
        assert np.abs(gaps.woman_N - gaps.man_N).min() > 1e-3
        assert all(np.allclose(patched_N, gaps.woman_N, atol=1e-4) for patched_N in gaps.patched.values())
    for gaps in patch_scenes(loaded, scene_pairs(loaded, 2, 2), all_hooks(loaded)).values():
        assert len(gaps.patched) == len(all_hooks(loaded)) * 3
        assert all(np.allclose(patched_N, gaps.man_N, atol=1e-4) for patched_N in gaps.patched.values())


def test_sharing_the_picture_and_passing_over_lower_layers_changes_no_number(
    build_family: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = build_family("gemma3")
    pairs, hooks = scene_pairs(loaded), all_hooks(loaded)
    shared = patch_scenes(loaded, pairs, hooks)
    monkeypatch.setattr("saebias.mechanistic.scene_runs.prefix_of", lambda *_: None)
    whole = patch_scenes(loaded, pairs, hooks)
    plain = {hook: gap_under(loaded, pairs["ar"].man, edit=edit_of(loaded, pairs["ar"], hook)) for hook in hooks}
    for hook, gap_N in plain.items():
        np.testing.assert_allclose(whole["ar"].patched[PatchPlace("decoder", hook.layer, hook.site, "prompt")], gap_N, atol=1e-4)
    for language, gaps in shared.items():
        for place, patched_N in gaps.patched.items():
            np.testing.assert_allclose(patched_N, whole[language].patched[place], atol=1e-4, err_msg=str(place))


def edit_of(loaded: LoadedModel, pair: ScenePair, hook: HookPoint) -> Edit:
    """The plain way: the whole model run with the prompt's activations replaced."""
    return Edit({hook: replace_with(activations(loaded, pair.woman.inputs, [hook])[hook], pair.mask("prompt"))}, where="all")


@pytest.fixture(scope="module")
def one_pathway(build_family: Callable[[str], LoadedModel]) -> LoadedModel:
    """A model in which only the attention of layer 1 can carry anything from one token to another."""
    import copy

    loaded = copy.deepcopy(build_family("llava"))
    with torch.no_grad():
        for number, layer in enumerate(loaded.adapter.layers):
            if number != 1:
                layer.self_attn.o_proj.weight.zero_()
    return loaded


def test_a_planted_pathway_is_found_where_it_was_planted(one_pathway: LoadedModel) -> None:
    for gaps in patch_scenes(one_pathway, scene_pairs(one_pathway), all_hooks(one_pathway)).values():
        total_N = gaps.woman_N - gaps.man_N
        assert np.abs(total_N).min() > 1e-4
        for place, patched_N in gaps.patched.items():
            moved_N = patched_N - gaps.man_N
            carries_all = (place.site, place.token_kind, place.layer) in {
                ("resid_post", "image", 0), ("attn_out", "decision", 1), ("resid_post", "decision", 1), ("resid_post", "decision", 2),
            }  # fmt: skip
            if carries_all:
                np.testing.assert_allclose(moved_N, total_N, atol=1e-5, err_msg=str(place))
            elif (place.site, place.token_kind) not in {("mlp_out", "image"), ("mlp_out", "decision")}:
                # Only an MLP may carry a part: of what stands at its own token.
                np.testing.assert_allclose(moved_N, 0, atol=1e-5, err_msg=str(place))


@pytest.mark.parametrize("family", ["gemma3", "qwen2_vl", "smolvlm"])
def test_the_projector_carries_all_of_the_picture_and_parts_of_the_tower_some(family: str, build_family: Callable[[str], LoadedModel]) -> None:
    loaded = build_family(family)
    pair = scene_pairs(loaded)["en"]
    expected = gap_under(loaded, pair.woman), gap_under(loaded, pair.man)
    found = patch_tower(loaded, pictures(1), pictures(2), lambda features: asked(loaded, features))["en"]
    assert len(found) == 2 * len(tower_blocks(loaded)) + 1 > 2
    torch.testing.assert_close(found.pop(PatchPlace("projector", None, "output", "image")), expected[0], atol=1e-4, rtol=0)
    assert all((gap_N - expected[1]).abs().max() > 1e-6 for gap_N in found.values())
    same = patch_tower(loaded, pictures(2), pictures(2), lambda features: asked(loaded, features))["ar"]
    own_N = gap_under(loaded, scene_pairs(loaded)["ar"].man)
    assert all(torch.allclose(gap_N, own_N, atol=1e-4) for gap_N in same.values())


def test_forwards_that_a_model_over_several_devices_has_on_its_instances_come_back(loaded: LoadedModel) -> None:
    layers = list(loaded.adapter.layers)
    spread = layers[0].forward
    layers[0].forward = spread
    try:
        with started_at(loaded.adapter, 2, None):
            assert layers[0].forward is not spread
        assert vars(layers[0])["forward"] is spread and "forward" not in vars(layers[1])
    finally:
        del layers[0].forward


def test_a_text_model_has_no_tower(build_family: Callable[[str], LoadedModel]) -> None:
    assert tower_blocks(build_family("llama")) == []


def test_rows_are_means_over_scenes_and_batches_can_be_joined() -> None:
    place = PatchPlace("decoder", 3, "attn_out", "image")
    halves = [GapsOfPatches(np.full(10, 4.0), np.full(10, -2.0), {place: np.full(10, -2.0 + shift)}) for shift in (1.0, 2.0)]
    (row,) = patch_rows(join_batches(halves), "ar", [*range(10), *range(10)], seed=1, n_draws=200)
    assert (row.part, row.layer, row.site, row.token_kind, row.language) == ("decoder", 3, "attn_out", "image", "ar")
    assert row.effect == pytest.approx(1.5) and row.total == 6 and row.low <= row.effect <= row.high and (row.n_images, row.n_clusters) == (20, 10)


def test_inputs_that_do_not_pair_are_refused(build_family: Callable[[str], LoadedModel]) -> None:
    loaded = build_family("gemma3")
    pairs = scene_pairs(loaded)
    with pytest.raises(InputError, match="same prompt and picture size"):
        ScenePair(pairs["en"].woman, pairs["ar"].man)
    with pytest.raises(InputError, match="token kind 'caption' cannot be patched; choose one of image, prompt, decision, all"):
        patch_scenes(loaded, pairs, [HookPoint(0)], ["caption"])
    with pytest.raises(InputError, match="4 pictures of women for 3 of men"):
        patch_tower(loaded, pictures(1), pictures(2)[:3], lambda features: asked(loaded, features))


def test_the_other_direction_patches_the_man_into_the_womans_run_and_moves_toward_him(loaded: LoadedModel) -> None:
    streams = [HookPoint(layer) for layer in range(loaded.adapter.n_layers)]
    pairs = scene_pairs(loaded)
    into_man = patch_scenes(loaded, pairs, streams, ["all"])["en"]
    into_woman = patch_scenes(loaded, {language: pair.turned() for language, pair in pairs.items()}, streams, ["all"])["en"]
    np.testing.assert_allclose(into_woman.woman_N, into_man.man_N, atol=1e-5)
    drawn = {"seed": 1, "n_draws": 200}
    there = patch_rows(into_man, "en", range(N), **drawn)
    back = patch_rows(into_woman, "en", range(N), direction="man into woman", **drawn)
    # Everything patched is the other run, whichever way: the same total and the same effect.
    for one, other in zip(there, back, strict=True):
        assert (one.direction, other.direction) == ("woman into man", "man into woman")
        assert one.effect == pytest.approx(one.total, abs=1e-4) and other.effect == pytest.approx(one.total, abs=1e-4)
        assert other.total == pytest.approx(one.total, abs=1e-5) and np.isnan(one.over_image)
    with pytest.raises(InputError, match="unknown direction"):
        patch_rows(into_man, "en", range(N), direction="sideways", **drawn)


def test_the_deciding_token_is_compared_with_the_image_tokens_scene_by_scene() -> None:
    rng = np.random.default_rng(1)
    scene_N, woman_N, man_N = 5 * rng.standard_normal(40), np.full(40, 4.0), np.zeros(40)
    patched = {
        PatchPlace("decoder", 3, "resid_post", kind): scene_N + more for kind, more in (("image", 0.0), ("decision", 0.5 + 0.1 * rng.standard_normal(40)))
    }
    rows = {row.token_kind: row for row in patch_rows(GapsOfPatches(woman_N, man_N, patched), "en", range(40), seed=1, n_draws=500)}
    # What scenes share cancels: their own intervals overlap widely.
    assert rows["decision"].low < rows["image"].high and 0.4 < rows["decision"].over_image_low < 0.5 < rows["decision"].over_image_high < 0.6
    assert np.isnan(rows["image"].over_image)
