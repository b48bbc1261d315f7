"""Laws of the logit lens: at the last layer it is the model, norm and soft-cap included; its numbers are those of the distribution it shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3ForCausalLM

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.mechanistic.lens import LogitLens
from saebias.vlm.adapter import Adapter, build_adapter
from saebias.vlm.forward import activations, forward
from saebias.vlm.hooks import capture
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel

N_ROWS, VOCABULARY = 6, 50
FAMILIES = ("gemma3", "paligemma", "llava", "qwen2_vl", "qwen2_5_vl", "idefics3", "smolvlm", "mllama", "gemma3_text", "llama", "qwen2")


@pytest.fixture(scope="module", params=[None, 5.0], ids=["plain", "softcap"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        final_logit_softcapping=request.param,
    )  # fmt: skip
    torch.manual_seed(1)
    model = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5) if parameter.ndim == 2 else None
    return build_adapter(model)


@pytest.fixture(scope="module")
def pass_(adapter: Adapter) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_LND at the last position of every layer, the model's logits there)."""
    ids = torch.randint(3, VOCABULARY, (N_ROWS, 5), generator=torch.Generator().manual_seed(2))
    hooks = [HookPoint(layer) for layer in range(adapter.n_layers)]
    with torch.no_grad(), capture(adapter, hooks) as seen:
        logits_BTV = adapter.model(input_ids=ids).logits
    return torch.stack([seen[hook][:, -1] for hook in hooks]), logits_BTV[:, -1]


def test_the_lens_of_the_last_layer_is_the_model(adapter: Adapter, pass_: tuple[torch.Tensor, torch.Tensor]) -> None:
    x_LND, logits_NV = pass_
    lens = LogitLens(adapter.unembed)
    torch.testing.assert_close(lens.distribution(x_LND[-1]), logits_NV.log_softmax(-1))
    reading = lens.read(x_LND, [(3, 4)] * N_ROWS, [(5,)] * N_ROWS)
    p_NV = logits_NV.softmax(-1).detach()
    np.testing.assert_allclose(reading.gap[-1], (p_NV[:, [3, 4]].sum(-1).log() - p_NV[:, 5].log()).numpy(), atol=1e-5)
    np.testing.assert_allclose(reading.kl_to_final[-1], 0, atol=1e-6)
    assert (reading.kl_to_final[0] > 0.01).all()
    np.testing.assert_array_equal(reading.top_id[-1], p_NV.argmax(-1).numpy())


def test_ranks_and_entropy_are_those_of_the_distribution() -> None:
    x_LND = torch.tensor([[[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    reading = LogitLens(lambda x: x).read(x_LND, [(1, 3), (0,)], [(2,), (3,)])
    assert reading.female_rank.tolist() == [[1, 0]] and reading.male_rank.tolist() == [[2, 0]]
    assert reading.entropy[0, 1] == pytest.approx(np.log(4))
    assert reading.gap[0, 0] == pytest.approx(np.log((np.exp(3) + np.exp(1)) / np.exp(2)), abs=1e-6)


def test_the_reading_does_not_depend_on_how_many_rows_go_at_once() -> None:
    x_LND = torch.randn(2, 10, 12, generator=torch.Generator().manual_seed(4))
    whole, parts = (LogitLens(lambda x: 3 * x, rows_per_pass=n).read(x_LND, [(1, 2)] * 10, [(0,)] * 10) for n in (512, 3))
    for name in ("gap", "kl_to_final", "entropy", "female_rank", "top_id"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), atol=1e-5)


def test_the_tokens_of_a_group_are_the_likeliest_of_its_mean_distribution() -> None:
    x_ND = torch.randn(30, 12, generator=torch.Generator().manual_seed(4))
    mean_V = (3 * x_ND).softmax(-1).mean(0)
    ids, p = LogitLens(lambda x: 3 * x, rows_per_pass=7).top_of_group(x_ND, k=3)
    assert ids.tolist() == mean_V.argsort(descending=True)[:3].tolist()
    np.testing.assert_allclose(p, mean_V[ids].numpy(), atol=1e-6)
    one_ids, one_p = LogitLens(lambda x: 3 * x).top_tokens(x_ND[:1], k=3)
    group_ids, group_p = LogitLens(lambda x: 3 * x).top_of_group(x_ND[:1], k=3)
    assert one_ids[0].tolist() == group_ids.tolist() and np.allclose(one_p[0], group_p)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_every_family_the_lens_of_the_last_layer_is_the_model(family: str, build_family: Callable[[str], LoadedModel]) -> None:
    loaded = build_family(family)
    pictures = None
    prompt = "say what it is"
    if loaded.processor is not None:
        rng = np.random.default_rng(0)
        pictures, prompt = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(2)], "{image}say what it is"
    inputs = build_inputs(loaded, pictures, [prompt] * 2)
    last = HookPoint(loaded.adapter.n_layers - 1)
    x_BTD, logits_BTV = activations(loaded, inputs, [last])[last], forward(loaded, inputs)
    real = inputs.attention_mask_BT.bool()
    torch.testing.assert_close(LogitLens(loaded.adapter.unembed).distribution(x_BTD[real]), logits_BTV[real].float().log_softmax(-1), atol=1e-4, rtol=1e-4)


def test_a_lens_without_the_last_layer_is_measured_against_the_one_given() -> None:
    x_LND = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(4))
    lens = LogitLens(lambda x: x)
    whole = lens.read(x_LND, [(1,)] * 4, [(0,)] * 4)
    lower = lens.read(x_LND[:2], [(1,)] * 4, [(0,)] * 4, final_ND=x_LND[-1])
    np.testing.assert_allclose(lower.kl_to_final, whole.kl_to_final[:2])


def test_rows_are_means_per_layer_language_and_visual_gender_with_intervals_over_clusters() -> None:
    x_LND = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(4))
    reading = LogitLens(lambda x: x).read(x_LND, [(1,)] * 40, [(0,)] * 40)
    language, gender, clusters = ["en"] * 20 + ["ar"] * 20, ["F", "M", "A", "A"] * 10, list(range(20)) * 2
    rows = reading.rows([3, 7], language, gender, clusters, seed=1, n_draws=200)
    assert len(rows) == 2 * 2 * 3 and {row.layer for row in rows} == {3, 7}
    (row,) = [row for row in rows if (row.layer, row.language, row.visual_gender) == (7, "ar", "A")]
    kept = [n for n in range(40) if language[n] == "ar" and gender[n] == "A"]
    assert row.lens == "logit" and row.female_rank == np.median(reading.female_rank[1, kept])
    assert row.gap == pytest.approx(reading.gap[1, kept].mean()) and row.gap_low < row.gap < row.gap_high and row.n_clusters == 10


def test_vectors_and_tokens_that_the_model_does_not_know_are_named(adapter: Adapter, pass_: tuple[torch.Tensor, torch.Tensor]) -> None:
    lens, x_LND = LogitLens(adapter.unembed), pass_[0]
    with pytest.raises(InputError, match=r"row 1: token 50 is not in the vocabulary of 50; ids run from 0 to 49"):
        lens.read(x_LND[:, :2], [(3,), (50,)], [(4,), (5,)])
    with pytest.raises(InputError, match="row 0: token -1 is not in the vocabulary"):
        lens.read(x_LND[:, :2], [(3,), (4,)], [(-1,), (5,)])
    with pytest.raises(InputError, match=r"row 0 has F tokens \(\)"):
        lens.read(x_LND[:, :1], [()], [(5,)])
    with pytest.raises(InputError, match="the unembedding takes no vectors of 5 numbers"):
        lens.read(x_LND[:, :1, :5], [(3,)], [(5,)])
    with pytest.raises(InputError, match="one row at least"):
        lens.read(x_LND[:, :0], [], [])
    with pytest.raises(InputError, match="hand in at least one"):
        lens.top_of_group(x_LND[0, :0])


def test_bad_input_is_named() -> None:
    lens, x_LND = LogitLens(lambda x: x), torch.zeros(1, 2, 4)
    with pytest.raises(InputError, match="row 1 has F tokens"):
        lens.read(x_LND, [(0,), (1,)], [(2,), (1,)])
    with pytest.raises(InputError, match="2 rows of activations, 1 of F tokens"):
        lens.read(x_LND, [(0,)], [(1,), (1,)])
    with pytest.raises(InputError, match="activations holds 1 values that are not finite"):
        lens.read(x_LND.masked_fill(torch.arange(8).view(1, 2, 4) == 3, torch.nan), [(0,)] * 2, [(1,)] * 2)
    with pytest.raises(InputError, match="2 layer numbers for 1 layers"):
        lens.read(x_LND, [(0,)] * 2, [(1,)] * 2).rows([0, 1], ["en"] * 2, ["F"] * 2, [0, 1], seed=1)
