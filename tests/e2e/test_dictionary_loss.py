"""The cross-entropy through a dictionary is that of whole forward passes with a plain hook of torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saebias.config.load import load_config
from saebias.pipeline.stage import StageContext
from saebias.report import SilentReporter
from saebias.sae.formats import load_sae
from saebias.stages.analyze_features import ANALYZE_FEATURES
from saebias.stages.dictionary_loss import _scored_samples
from saebias.stages.model_access import features_of, open_model, prompts
from saebias.vlm.inputs import build_inputs
from saebias.vlm.positions import CAPTION
from tests.conftest import Ask

pytestmark = pytest.mark.slow


def test_cross_entropy_through_a_dictionary_is_that_of_whole_passes_with_a_plain_hook(skewed_run: Path, ask: Ask) -> None:
    cfg = load_config(Path("quick"), [f"runtime.artifacts={skewed_run}"])
    ctx = StageContext(cfg, ANALYZE_FEATURES, "-", skewed_run, {}, {}, SilentReporter())
    row = ask(skewed_run, "select c.*, s.path from sae_cross_entropy c join saes s using (sae_id) where s.role = 'main' and language = 'ar' and c.layer = 5")[0]
    samples = {sample["sample_id"]: sample for sample in ask(skewed_run, "from samples")}
    chosen = _scored_samples(ctx, samples, "ar")
    assert {sample["split"] for sample in chosen} == {"report"}
    loaded = open_model(cfg)
    inputs = build_inputs(loaded, features_of(loaded, chosen), [prompts(cfg)["ar"]] * len(chosen), [sample["caption_ar"] for sample in chosen])
    sae = load_sae(next(skewed_run.glob(f"train/*/{row['path']}")))[0]
    behind_BT = inputs.after_image_BT & inputs.attention_mask_BT.bool()

    def replace(_module: object, _args: object, output: torch.Tensor | tuple) -> torch.Tensor | tuple:
        x_BTD = output[0] if isinstance(output, tuple) else output
        x_BTD = torch.where(behind_BT[:, :, None], sae(x_BTD.flatten(0, 1)).view_as(x_BTD), x_BTD)
        return (x_BTD, *output[1:]) if isinstance(output, tuple) else x_BTD

    def cross_entropy() -> float:
        with torch.no_grad():
            logp_BTV = torch.log_softmax(loaded.model(**inputs.tensors).logits[:, :-1].double(), dim=-1)
        of_caption = [logp_BTV[b, t, inputs.input_ids_BT[b, t + 1]] for b, t in (inputs.token_kind_BT[:, 1:] == CAPTION).nonzero().tolist()]
        return -float(torch.stack(of_caption).mean())

    assert cross_entropy() == pytest.approx(row["ce_untouched"], abs=1e-4)
    handle = loaded.model.get_decoder().layers[5].register_forward_hook(replace)
    try:
        assert cross_entropy() == pytest.approx(row["ce_rebuilt"], abs=1e-4)
    finally:
        handle.remove()
