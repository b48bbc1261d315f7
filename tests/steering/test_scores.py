"""Laws of scoring many edits at once: the answers are those of whole forwards, one edit and one continuation at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.steering import arms
from saebias.steering.packing import build_tree
from saebias.steering.scores import Questions, copies_of, copies_of_sets, score
from saebias.vlm.forward import Edit, activations
from saebias.vlm.images import ImageFeatures, encode_images
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.scoring import score_continuations

PROMPT = "{image}describe the picture"
TEXTS = (("a woman cook with", "a man cook with", "a cook with"), ("طباخة مع", "طباخ مع"), ("a woman", "the man with a car", "a cook with"))
GENDERS = (("F", "M", "N"), ("F", "M"), ("F", "M", "N"))
WHERES = ("after_image", "caption")


@pytest.fixture(scope="module", params=["gemma3", "qwen2_5_vl", "llava"])
def loaded(request: pytest.FixtureRequest, build_family: Callable[[str], LoadedModel]) -> LoadedModel:
    return build_family(request.param)


@pytest.fixture(scope="module")
def features(loaded: LoadedModel) -> ImageFeatures:
    rng = np.random.default_rng(3)
    return encode_images(loaded, [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in TEXTS])


@pytest.fixture(scope="module")
def dictionary(loaded: LoadedModel) -> SparseAutoencoder:
    sae = SparseAutoencoder(SaeSpec(d_model=loaded.adapter.d_model, n_latents=64, k=8, seed=5)).requires_grad_(False)
    sae.b_dec_D.normal_(generator=torch.Generator().manual_seed(6))
    return sae


def whole(loaded: LoadedModel, features: ImageFeatures, hook: HookPoint, arm: arms.Arm, where: str) -> np.ndarray:
    inputs = build_inputs(loaded, features, [PROMPT] * len(TEXTS))
    return np.concatenate(score_continuations(loaded, inputs, TEXTS, edit=Edit({hook: arms.as_hook(arm.edit)}, where=where)))  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize("where", WHERES)
def test_packed_replay_equals_whole_forwards_for_every_arm(loaded: LoadedModel, features: ImageFeatures, dictionary: SparseAutoencoder, where: str) -> None:
    hook = HookPoint(loaded.adapter.n_layers // 2 - 1)
    tried = arms.control_arms(dictionary) + arms.ablation_arms(dictionary, {"visible": range(20)}, [0.5, 2.0], 3.0)
    (scores,) = score(loaded, features, Questions(PROMPT, TEXTS, GENDERS), hook, [copies_of([arm.edit for arm in tried])], where=where, pictures_per_batch=2)
    packed_SQ, picture_Q, _ = scores.continuation_logp()
    assert picture_Q.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    for arm, packed_Q in zip(tried, packed_SQ, strict=True):
        np.testing.assert_allclose(packed_Q, whole(loaded, features, hook, arm, where), atol=2e-4, err_msg=arms.ARM_NAMES[arm.arm])
    assert np.abs(packed_SQ[-1] - packed_SQ[0]).max() > 0.01
    assert scores.kl_SN is not None and np.abs(scores.kl_SN[0]).max() < 1e-6
    # Edits of caption tokens cannot reach a decision that falls on the first of them.
    assert (scores.kl_SN[-1] > 1e-3).all() == (where == "after_image")


def test_random_sets_replayed_together_equal_each_set_by_itself(loaded: LoadedModel, features: ImageFeatures, dictionary: SparseAutoencoder) -> None:
    hook, sets_SK = HookPoint(0), torch.arange(12, 36).view(8, 3)
    inputs = build_inputs(loaded, features, [PROMPT] * len(TEXTS))
    x_ND = activations(loaded, inputs, [hook])[hook][inputs.attention_mask_BT.bool()]
    sets = arms.random_sets(dictionary, "visible", [1, 2, 3], sets_SK, 2.0, 1.0, x_ND)
    together, few = (score(loaded, features, Questions(PROMPT, TEXTS), hook, [copies_of_sets(sets)], tokens_per_pass=tokens)[0] for tokens in (8192, 60))
    np.testing.assert_allclose(together.logp_SE, few.logp_SE, atol=1e-4)
    packed_SQ, _, _ = together.continuation_logp()
    for number, (indices, scale) in enumerate(zip(sets_SK.tolist(), sets.scale_S.tolist(), strict=True)):
        (arm,) = arms.ablation_arms(dictionary, {"one": indices}, [scale], 2.0)
        np.testing.assert_allclose(packed_SQ[number], whole(loaded, features, hook, arm, "after_image"), atol=2e-4)


def test_probabilities_are_summed_by_gender_and_a_language_without_neutral_says_none(loaded: LoadedModel, features: ImageFeatures) -> None:
    questions = Questions(PROMPT, TEXTS, GENDERS)
    (scores,) = score(loaded, features, questions, HookPoint(0), [copies_of([lambda x, mask: x])])
    (closed,) = scores.closed_set(questions)
    logp_SQ, _, _ = scores.continuation_logp()
    assert closed.neutral is not None
    np.testing.assert_allclose(closed.female, np.exp(logp_SQ[0, [0, 3, 5]]))
    np.testing.assert_allclose(closed.neutral, [np.exp(logp_SQ[0, 2]), 0.0, np.exp(logp_SQ[0, 7])])
    binary = Questions(PROMPT, tuple(texts[:2] for texts in TEXTS), tuple(genders[:2] for genders in GENDERS))
    (scores,) = score(loaded, features, binary, HookPoint(0), [copies_of([lambda x, mask: x])])
    assert scores.closed_set(binary)[0].neutral is None


def test_cross_entropy_counts_only_the_tokens_kept(loaded: LoadedModel, features: ImageFeatures) -> None:
    (scores,) = score(loaded, features, Questions(PROMPT, tuple(texts[:1] for texts in TEXTS)), HookPoint(0), [copies_of([lambda x, mask: x])])
    keep_E = scores.place_E > 0
    expected = [-scores.logp_SE[0, keep_E & (scores.picture_E == picture)].mean() for picture in range(3)]
    np.testing.assert_allclose(scores.mean_cross_entropy(keep_E, 3)[0], expected)
    with pytest.raises(InputError, match="3 pictures have no token"):
        scores.mean_cross_entropy(np.zeros_like(keep_E), 3)


def test_what_replay_cannot_answer_is_refused(features: ImageFeatures, loaded: LoadedModel, build_family: Callable[[str], LoadedModel]) -> None:
    questions, nothing = Questions(PROMPT, TEXTS), [copies_of([lambda x, mask: x])]
    with pytest.raises(InputError, match="reach into the picture's prefix"):
        score(loaded, features, questions, HookPoint(0), nothing, where="all")
    with pytest.raises(InputError, match="not the residual stream"):
        score(loaded, features, questions, HookPoint(0, "mlp_out"), nothing)
    with pytest.raises(InputError, match="2 pictures for 3 lists"):
        score(loaded, features.take([0, 1]), questions, HookPoint(0), nothing)
    with pytest.raises(ModelError, match="prefix cannot be frozen"):
        score(build_family("paligemma"), features, questions, HookPoint(0), nothing)


def test_a_tree_runs_shared_tokens_once() -> None:
    tree = build_tree([[(1, 5, 6), (1, 7, 6), (2, 3)]], prompt_columns=2)
    # The prompt's two, then 1 | 1 5 | 1 7 | 2: last tokens are asked for, never fed.
    assert tree.real_BQ.sum() == 6
    assert tree.attends_BQQ[0].sum(1).tolist() == [1, 2, 3, 4, 4, 3]
    assert tree.token_E.tolist() == [1, 5, 6, 1, 7, 6, 2, 3]
    assert tree.node_E.tolist() == [1, 2, 3, 1, 2, 4, 1, 5]
