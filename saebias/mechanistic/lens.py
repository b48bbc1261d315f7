"""Logit lens: what each layer would say if the decoder stopped there.

softmax(unembed(x)) with the model's own final norm, output head and soft-cap, so at the last layer the lens is the model. Unreliable on image tokens; it is
read at the decision position, whose next token decides the gender said. Shapes: L layers, N rows (image x language), D model width, V vocabulary. Natural logs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.stats.checks import finite, same_rows
from saebias.stats.resampling import cluster_bootstrap, mean_statistic

Unembed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LensRow:
    """The lens at one layer for one language and visual gender: means over images, the gap with its image-cluster interval.

    `lens` is "logit" or "tuned"; `female_rank`, `male_rank` are medians over images of the rank of the likeliest F (M) token, 0 for the top.
    """

    lens: str
    layer: int
    language: str
    visual_gender: str
    gap: float
    gap_low: float
    gap_high: float
    kl_to_final: float
    entropy: float
    female_rank: float
    male_rank: float
    n_images: int
    n_clusters: int


@dataclass(frozen=True)
class LensReading:
    """What the lens saw of every row at every layer [L, N].

    gap = log P(F tokens) - log P(M tokens); `kl_to_final` = KL(model || lens), nats; `female_rank`, `male_rank` count the tokens that are likelier than
    the likeliest F (M) token, 0 for the top; `top_id` is the likeliest token.
    """

    gap: np.ndarray
    kl_to_final: np.ndarray
    entropy: np.ndarray
    female_rank: np.ndarray
    male_rank: np.ndarray
    top_id: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[LensReading]) -> LensReading:
        """Readings of rows that were read some at a time, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts], axis=1) for field in fields(cls)))

    def rows(
        self,
        layers: Sequence[int],
        language: Sequence[str],
        visual_gender: Sequence[str],
        clusters: Sequence[object],
        *,
        seed: int,
        n_draws: int = 2000,
        lens: str = "logit",
    ) -> list[LensRow]:
        """Means per layer, language and visual gender; `layers` numbers the L layers, the other sequences have one entry per row."""
        language_N, gender_N, cluster_N = np.asarray(language), np.asarray(visual_gender), np.asarray(clusters)
        same_rows(gap=self.gap.T, language=language_N, visual_gender=gender_N, clusters=cluster_N)
        if len(layers) != len(self.gap):
            raise InputError(f"{len(layers)} layer numbers for {len(self.gap)} layers of activations; give one for each")
        rows = []
        for number, layer in enumerate(layers):
            for spoken, shown in sorted({(str(a), str(b)) for a, b in zip(language_N, gender_N, strict=True)}):
                kept_N = (language_N == spoken) & (gender_N == shown)
                gap = cluster_bootstrap(mean_statistic(self.gap[number, kept_N]), cluster_N[kept_N], n_draws=n_draws, seed=seed)
                means = (float(values_LN[number, kept_N].mean()) for values_LN in (self.kl_to_final, self.entropy))
                ranks = (float(np.median(values_LN[number, kept_N])) for values_LN in (self.female_rank, self.male_rank))
                rows.append(LensRow(lens, layer, spoken, shown, gap.value, gap.low, gap.high, *means, *ranks, gap.n_rows, gap.n_clusters))
        return rows


@dataclass(frozen=True)
class LogitLens:
    """Reads residual streams through the model's own unembedding: `unembed(x) -> logits`, final norm and soft-cap included."""

    unembed: Unembed
    rows_per_pass: int = 512

    @torch.no_grad()
    def read(self, x_LND: Tensor, female_ids: Sequence[Sequence[int]], male_ids: Sequence[Sequence[int]], *, final_ND: Tensor | None = None) -> LensReading:
        """The lens at the decision position of N rows: `female_ids[n]`, `male_ids[n]` are the first token ids in which row n's F and M continuations part.

        `final_ND` is the residual stream after the model's last layer, where `x_LND` does not end with it. Raises InputError for activations that are not
        finite, or a row without F or M tokens, or with a token in both.
        """
        if x_LND.ndim != 3 or not x_LND.numel():
            raise InputError(f"activations of shape {tuple(x_LND.shape)}; hand in [layers, rows, model width], one row at least")
        for x_ND in x_LND:
            finite(x_ND.float().numpy(force=True), "activations")
        n_rows = x_LND.shape[1]
        if final_ND is not None and final_ND.shape != x_LND.shape[1:]:
            raise InputError(f"the last layer's activations have shape {tuple(final_ND.shape)}, the others {tuple(x_LND.shape[1:])}; give the same rows")
        if not n_rows == len(female_ids) == len(male_ids):
            raise InputError(f"{n_rows} rows of activations, {len(female_ids)} of F tokens, {len(male_ids)} of M tokens; give one of each per row")
        for row, (female, male) in enumerate(zip(female_ids, male_ids, strict=True)):
            if not female or not male or set(female) & set(male):
                raise InputError(f"row {row} has F tokens {tuple(female)} and M tokens {tuple(male)}; each gender needs a first token of its own")
        last_ND = x_LND[-1] if final_ND is None else final_ND
        self._check_ids(last_ND, [*female_ids, *male_ids])
        parts = [
            self._read_rows(x_LND[:, cut], last_ND[cut], female_ids[cut], male_ids[cut])
            for cut in (slice(start, start + self.rows_per_pass) for start in range(0, n_rows, self.rows_per_pass))
        ]
        return LensReading(*(np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)))

    def _check_ids(self, x_ND: Tensor, ids: Sequence[Sequence[int]]) -> None:
        """Raise InputError for vectors that the model's head does not take, or a token that its vocabulary does not hold."""
        try:
            vocabulary = self.unembed(x_ND[:1]).shape[-1]
        except RuntimeError as error:
            raise InputError(
                f"the unembedding takes no vectors of {x_ND.shape[-1]} numbers ({' '.join(str(error).split())}); hand in residual streams"
            ) from error
        for number, of_row in enumerate(ids):
            for token in of_row:
                if not 0 <= token < vocabulary:
                    raise InputError(
                        f"row {number % (len(ids) // 2)}: token {token} is not in the vocabulary of {vocabulary}; ids run from 0 to {vocabulary - 1}"
                    )

    def _read_rows(self, x_LND: Tensor, final_ND: Tensor, female_ids: Sequence[Sequence[int]], male_ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, ...]:
        model_NV = self.distribution(final_ND)
        per_layer = []
        for x_ND in x_LND:
            logp_NV = self.distribution(x_ND)
            (female_N, female_rank_N), (male_N, male_rank_N) = of_tokens(logp_NV, female_ids), of_tokens(logp_NV, male_ids)
            kl_N = (model_NV.exp() * (model_NV - logp_NV)).sum(-1)
            entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
            per_layer.append((female_N - male_N, kl_N, entropy_N, female_rank_N, male_rank_N, logp_NV.argmax(-1)))
        return tuple(torch.stack(column).cpu().numpy() for column in zip(*per_layer, strict=True))

    def distribution(self, x_ND: Tensor) -> Tensor:
        """Next-token log-probabilities (N, V), float32, of residual-stream vectors."""
        return torch.log_softmax(self.unembed(x_ND).float(), dim=-1)

    def top_of_group(self, x_ND: Tensor, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """(ids [k], probabilities [k]) of the tokens likeliest on average over the N rows, best first; raises InputError for no row."""
        if not len(x_ND):
            raise InputError("no rows to read; hand in at least one")
        mean, ids = (self.probability_sums(x_ND) / len(x_ND)).topk(k)
        return ids.cpu().numpy(), mean.cpu().numpy()

    @torch.no_grad()
    def probability_sums(self, x_ND: Tensor) -> Tensor:
        """The tokens' probabilities summed over the rows (V): what a group that is read some rows at a time adds up."""
        return torch.stack([self.distribution(part_ND).exp().sum(0) for part_ND in x_ND.split(self.rows_per_pass)]).sum(0)

    @torch.no_grad()
    def top_tokens(self, x_ND: Tensor, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """(ids [N, k], probabilities [N, k]) of the k likeliest next tokens, best first."""
        logp, ids = self.distribution(x_ND).topk(k, dim=-1)
        return ids.cpu().numpy(), logp.exp().cpu().numpy()


def of_tokens(logp_NV: Tensor, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(log of the summed probability, rank of the likeliest) of each row's token set; rank 0 is the top of the vocabulary."""
    width = max(len(of_row) for of_row in ids)
    index_NW = torch.tensor([[*of_row, *[of_row[0]] * (width - len(of_row))] for of_row in ids], device=logp_NV.device)
    real_NW = torch.tensor([[place < len(of_row) for place in range(width)] for of_row in ids], device=logp_NV.device)
    picked_NW = logp_NV.gather(1, index_NW).masked_fill(~real_NW, -torch.inf)
    rank_N = (logp_NV > picked_NW.max(-1, keepdim=True).values).sum(-1)
    return picked_NW.logsumexp(-1), rank_N
