"""A batch of pictures at the position that decides the gender: the prompt, then the tokens that F and M continuations share; the next token decides.

Lens, attribution and patching ask the same question there, so their numbers can be compared. Shapes: N rows, T columns, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saebias.identifiers import HookPoint
from saebias.mechanistic.lens import of_tokens
from saebias.vlm.forward import Edit, PrefixState, activations
from saebias.vlm.images import ImageFeatures
from saebias.vlm.inputs import ModelInputs, build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.prompts import caption_tokens, decision


@dataclass(frozen=True, eq=False)
class Decisions:
    """`inputs` (padded on the right, so that pictures stand at the same columns in every row), the deciding column of each row, and its F and M token ids."""

    inputs: ModelInputs
    column_N: Tensor
    female_ids: tuple[tuple[int, ...], ...]
    male_ids: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.inputs)

    def at_column(self, x_NTD: Tensor) -> Tensor:
        """The vectors [N, D] at the deciding column."""
        return x_NTD[torch.arange(len(self), device=x_NTD.device), self.column_N]


def decisions_of(
    loaded: LoadedModel,
    pictures: ImageFeatures | Sequence[object],
    prompts: Sequence[str],
    female: Sequence[Sequence[str]],
    male: Sequence[Sequence[str]],
    *,
    use_chat_template: bool = False,
) -> Decisions:
    """One row per picture with its prompt; `female[n]`, `male[n]` are the caption beginnings of row n that say the gender (see `prompts.decision`)."""
    plain = build_inputs(loaded, pictures, prompts, use_chat_template=use_chat_template, padding="right")
    known: dict[tuple[object, ...], tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {}
    found = []
    for prompt, f_texts, m_texts in zip(plain.prompts, female, male, strict=True):
        key = (prompt.tail, tuple(f_texts), tuple(m_texts))
        if key not in known:
            decided = decision(loaded, prompt, f_texts, m_texts)
            shared = caption_tokens(loaded, prompt, f_texts[:1])[0][: decided.common]
            known[key] = shared, decided.female_ids, decided.male_ids
        found.append(known[key])
    inputs = plain if not any(shared for shared, _, _ in found) else plain.with_captions([shared for shared, _, _ in found], padding="right")
    columns = [inputs.column(row, len(inputs.prompts[row].ids) + len(shared) - 1) for row, (shared, _, _) in enumerate(found)]
    return Decisions(inputs, torch.tensor(columns, device=inputs.input_ids_BT.device), tuple(f for _, f, _ in found), tuple(m for _, _, m in found))


@torch.no_grad()
def gap_of(loaded: LoadedModel, logits_NV: Tensor, decisions: Decisions) -> Tensor:
    """log P(F tokens) - log P(M tokens) per row, float32, from next-token logits at the deciding column."""
    logp_NV = torch.log_softmax(logits_NV.float(), dim=-1)
    return of_tokens(logp_NV, decisions.female_ids)[0] - of_tokens(logp_NV, decisions.male_ids)[0]


@torch.no_grad()
def gap_under(loaded: LoadedModel, decisions: Decisions, *, edit: Edit | None = None, prefix: PrefixState | None = None) -> Tensor:
    """The gap of every row under an edit; `prefix`, where given, was made with the hook point of the last layer's residual stream."""
    last = HookPoint(loaded.adapter.n_layers - 1)
    x_NTD = activations(loaded, decisions.inputs, [last], edit=edit, prefix=prefix)[last]
    return gap_of(loaded, loaded.adapter.unembed(decisions.at_column(x_NTD)), decisions)
