"""What the model's captions lose when the residual stream is replaced by a dictionary's reconstruction of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from saebias.errors import NotEnoughData
from saebias.pipeline.stage import StageContext
from saebias.stages.model_access import batches, features_of, open_model, prompts, shared_prefix, spoken

if TYPE_CHECKING:
    from torch import Tensor

    from saebias.identifiers import HookPoint
    from saebias.stages.dictionaries import Dictionary
    from saebias.stages.token_index import TokenIndex
    from saebias.store.arrays import ActivationArray
    from saebias.vlm.inputs import ModelInputs
    from saebias.vlm.loading import LoadedModel

# Legend: N rows, D model dimension.

LOSS_SAMPLES = 32
"""Samples of the report split that captions are scored on, per language."""
MEAN_ROWS = 4096
"""Rows of the select split that the mean activation is taken from."""
MIN_HARM = 0.01
"""Nats per token that an ablation must cost before a share of it can be recovered."""


def cross_entropy_rows(
    ctx: StageContext, dictionaries: Sequence[Dictionary], array: ActivationArray, index: TokenIndex, samples: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Per dictionary and language the cross-entropy of the reference captions in nats per token: untouched, reconstructed, mean- and zero-ablated.

    The residual stream is replaced at every text position behind the picture. Raises NotEnoughData when no report sample has a caption.
    """
    loaded = open_model(ctx.cfg)
    means = {hook: _mean_text(ctx, array, index, hook) for hook in {d.hook for d in dictionaries}}
    rows: list[dict[str, Any]] = []
    languages = spoken(ctx)
    with ctx.reporter.task("captions through the dictionaries", len(languages) * len(dictionaries), "dictionaries") as task:
        for language in languages:
            scorer = _Scorer(loaded, ctx, _scored_samples(ctx, samples, language), language)
            untouched = scorer.cross_entropy(None, None)
            # Both ablations are the same for every dictionary of a hook point.
            ablated = {
                hook: (scorer.cross_entropy(hook, _constant(mean_D)), scorer.cross_entropy(hook, _constant(0 * mean_D))) for hook, mean_D in means.items()
            }
            for dictionary in dictionaries:
                rebuilt = scorer.cross_entropy(dictionary.hook, lambda x_ND, _row_N, sae=dictionary.sae: sae(x_ND.float()))
                place = {"sae_id": dictionary.sae_id, "layer": dictionary.hook.layer, "language": language, "split": "report"}
                rows.append(place | {"n_samples": len(scorer.samples), "n_tokens": scorer.n_tokens} | recovered(untouched, rebuilt, *ablated[dictionary.hook]))
                task.advance()
    return rows


def recovered(untouched: float, rebuilt: float, mean_ablated: float, zero_ablated: float) -> dict[str, Any]:
    """The cross-entropies with the shares that the reconstruction gives back of what an ablation costs, (ablated - rebuilt) / (ablated - untouched).

    Not clipped: above 1 the captions are likelier than without the dictionary. Null, with a note, where the ablation costs next to nothing.
    """
    share: dict[str, float | None] = {"recovered_mean": None, "recovered_zero": None}
    for name, ablated in (("recovered_mean", mean_ablated), ("recovered_zero", zero_ablated)):
        if ablated - untouched >= MIN_HARM:
            share[name] = (ablated - rebuilt) / (ablated - untouched)
    missing = [name for name, value in share.items() if value is None]
    note = f"{' and '.join(missing)}: the ablation costs less than {MIN_HARM:g} nats a token" if missing else None
    values = {"ce_untouched": untouched, "ce_rebuilt": rebuilt, "ce_mean_ablated": mean_ablated, "ce_zero_ablated": zero_ablated}
    return {**values, **share, "note": note}


def _constant(value_D: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x_ND, _row_N: value_D.to(x_ND).expand_as(x_ND)


def _mean_text(ctx: StageContext, array: ActivationArray, index: TokenIndex, hook: HookPoint) -> Tensor:
    import torch

    from saebias.stages.token_index import balanced_rows, unseen_rows

    # Of the positions that are replaced: the first tokens of a sequence can be a hundred times longer, and would be most of a mean.
    behind = unseen_rows(array, index)
    text = behind.where((behind.split == "select") & (behind.token_kind != "image"))
    rows = text.row[balanced_rows(text, MEAN_ROWS, ctx.seed("mean"))]
    return torch.from_numpy(array.read_rows(hook, rows).mean(0))


def _scored_samples(ctx: StageContext, samples: dict[str, dict[str, Any]], language: str) -> list[dict[str, Any]]:
    from saebias.corpus.grouping import draw

    pool = [sample for sample in samples.values() if sample["split"] == "report" and sample[f"caption_{language}"]]
    if not pool:
        raise NotEnoughData(f"analyze: no sample of split report has a caption in {language}; cross-entropy through the dictionaries needs some")
    seed = ctx.seed("cross-entropy")
    return sorted(pool, key=lambda sample: draw(seed, "loss", sample["sample_id"]))[:LOSS_SAMPLES]


class _Scorer:
    """The reference captions of some samples, scored any number of times under replacements of the residual stream."""

    def __init__(self, loaded: LoadedModel, ctx: StageContext, samples: list[dict[str, Any]], language: str) -> None:
        self.samples, self._loaded = samples, loaded
        self._batches = [self._inputs(ctx, part, language) for part in batches(samples, ctx.cfg.runtime.batch_size)]
        self._prefixes = [shared_prefix(loaded, inputs) for inputs in self._batches]
        self.n_tokens = int(sum(inputs.caption_length_B.sum() for inputs in self._batches))

    def _inputs(self, ctx: StageContext, part: list[dict[str, Any]], language: str) -> ModelInputs:
        from saebias.vlm.inputs import build_inputs

        texts = [sample[f"caption_{language}"] for sample in part]
        prompt = prompts(ctx.cfg)[language]
        # A model that reads text alone is scored on its captions without their pictures.
        features = None if self._loaded.processor is None else features_of(self._loaded, part)
        return build_inputs(self._loaded, features, [prompt] * len(part), texts, use_chat_template=ctx.cfg.model.chat_template)

    def cross_entropy(self, hook: HookPoint | None, change: Callable[[Tensor, Tensor], Tensor] | None) -> float:
        """Nats per caption token, with `change` of the vectors [N, D] at every text position behind the picture."""
        import torch

        from saebias.vlm.forward import Edit, copy_cache, piece_of, run
        from saebias.vlm.hooks import on_positions
        from saebias.vlm.positions import CAPTION
        from saebias.vlm.scoring import token_logp

        edit = None if hook is None or change is None else Edit({hook: on_positions(change)}, where="after_image")
        total = 0.0
        with torch.no_grad():
            for inputs, prefix in zip(self._batches, self._prefixes, strict=True):
                start = 0 if prefix is None else prefix.columns
                cache = None if prefix is None else copy_cache(prefix.cache)
                asked_BT = (inputs.token_kind_BT == CAPTION)[:, start + 1 :]
                logits_RV = run(self._loaded, piece_of(inputs, start), cache=cache, edit=edit, logits=torch.nn.functional.pad(asked_BT, (0, 1)))
                total -= token_logp(logits_RV, inputs.input_ids_BT[:, start + 1 :][asked_BT]).double().sum().item()
        return total / self.n_tokens
