"""Exact probabilities of continuations under many edits at once: one recorded forward per batch, all copies replayed above the hook.

Shapes: N pictures, B pictures of a batch, R recorded rows (one per continuation), Q nodes of a packed row, S copies (arms or random sets),
U nodes with a token asked behind them, E asked tokens, D model width, V vocabulary. Logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.report import Reporter, SilentReporter
from saebias.steering.arms import RandomSets
from saebias.steering.edits import Edit
from saebias.steering.outcomes import ClosedSet
from saebias.steering.packing import Tree, build_tree, pack
from saebias.steering.upper import UpperRun, record_upper, replay_upper
from saebias.vlm.forward import piece_of, run
from saebias.vlm.images import ImageFeatures
from saebias.vlm.inputs import ModelInputs, build_inputs
from saebias.vlm.loading import LoadedModel

WHERE = ("after_image", "caption", "decision")
_LOGITS_PER_PASS = 32_000_000


@dataclass(frozen=True)
class Questions:
    """What is asked of every picture: continuations of one prompt, and the gender (F, M, N) that each discloses; all pictures share prompt and language."""

    prompt: str
    continuations: tuple[tuple[str, ...], ...]
    genders: tuple[tuple[str, ...], ...] | None = None
    shared: tuple[int, ...] | None = None
    use_chat_template: bool = False
    """Per picture the number of caption tokens that its F and M continuations share: behind them stands the decision. Needed for edits at `decision`."""

    def __post_init__(self) -> None:
        if self.genders is not None and [len(texts) for texts in self.continuations] != [len(genders) for genders in self.genders]:
            raise InputError("continuations and their genders differ in number; give one gender per continuation")
        if not all(self.continuations):
            raise InputError("a picture has no continuation; leave the picture out")


@dataclass(frozen=True)
class Copies:
    """S edited copies of a batch's residual stream: `make(x_BQD, mask_BQ, which) -> x_SBQD` for the copies in the slice `which`."""

    n_copies: int
    make: Callable[[Tensor, Tensor, slice], Tensor]


@dataclass(frozen=True)
class Scores:
    """Log-probability of every asked token under every copy, and how far the distribution at the gender decision moved.

    Token e is number `place_E` of continuation `continuation_E` of picture `picture_E`. `kl_SN` is KL(baseline || copy) at the decision position in
    nats, None where no genders were given.
    """

    logp_SE: np.ndarray
    picture_E: np.ndarray
    continuation_E: np.ndarray
    place_E: np.ndarray
    kl_SN: np.ndarray | None

    def continuation_logp(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(logp_SQ, picture_Q, continuation_Q): the log-probability of every whole continuation, picture by picture."""
        key_E = np.stack([self.picture_E, self.continuation_E])
        starts = np.flatnonzero(np.append(True, (key_E[:, 1:] != key_E[:, :-1]).any(axis=0)))
        return np.add.reduceat(self.logp_SE, starts, axis=1), self.picture_E[starts], self.continuation_E[starts]

    def closed_set(self, questions: Questions) -> list[ClosedSet]:
        """P(F), P(M), P(N) of every picture under each copy, summed over the continuations of that gender; P(N) is None where no picture has any."""
        if questions.genders is None:
            raise InputError("these questions name no genders; give them to sum probabilities by gender")
        logp_SQ, picture_Q, continuation_Q = self.continuation_logp()
        gender_Q = np.array([questions.genders[picture][number] for picture, number in zip(picture_Q, continuation_Q, strict=True)])
        n_pictures = len(questions.continuations)
        summed = {gender: _summed(np.exp(logp_SQ), picture_Q, gender_Q == gender, n_pictures) for gender in ("F", "M", "N")}
        has_neutral = bool((gender_Q == "N").any())
        return [ClosedSet(female, male, neutral if has_neutral else None) for female, male, neutral in zip(summed["F"], summed["M"], summed["N"], strict=True)]

    def mean_cross_entropy(self, keep_E: np.ndarray, n_pictures: int) -> np.ndarray:
        """Mean of -log p over the tokens marked in `keep_E`, per copy and picture [S, N]; InputError for a picture without such a token."""
        count_N = np.bincount(self.picture_E[keep_E], minlength=n_pictures)
        if (count_N == 0).any():
            raise InputError(f"{int((count_N == 0).sum())} pictures have no token off the gender words; leave them out")
        return -_summed(self.logp_SE, self.picture_E, keep_E, n_pictures) / count_N


def _summed(values_SE: np.ndarray, picture_E: np.ndarray, keep_E: np.ndarray, n_pictures: int) -> np.ndarray:
    """Sums per picture [S, N] of the entries kept."""
    is_of_EN = (picture_E[keep_E][:, None] == np.arange(n_pictures)).astype(float)
    return values_SE[:, keep_E] @ is_of_EN


def copies_of(edits: Sequence[Edit]) -> Copies:
    """One copy per edit."""

    def make(x_BQD: Tensor, mask_BQ: Tensor, which: slice) -> Tensor:
        return torch.stack([edit(x_BQD, mask_BQ) for edit in edits[which]])

    return Copies(len(edits), make)


def copies_of_sets(sets: RandomSets) -> Copies:
    """One copy per random set (arm A6)."""
    return Copies(len(sets.indices_SK), sets.edit)


@torch.no_grad()
def score(
    loaded: LoadedModel,
    features: ImageFeatures,
    questions: Questions,
    hook: HookPoint,
    copies: Sequence[Copies],
    *,
    where: str = "after_image",
    pictures_per_batch: int = 32,
    tokens_per_pass: int = 2048,
    reporter: Reporter | None = None,
) -> list[Scores]:
    """The questions' answers under every group of copies, for all pictures; equals `vlm.scoring.score_continuations` with the same edit up to rounding.

    The edits act at `hook` (a resid_post) on the text behind the picture (`after_image`), on caption tokens only (`caption`), or on the one position
    whose next token decides the gender (`decision`). Batch sizes change time and memory only. Raises ModelError for models whose pictures read the prompt
    (no frozen prefix) or whose layers cannot be replayed.
    """
    _check(loaded, hook, where)
    if where == "decision" and questions.shared is None:
        raise InputError("edits at the decision need Questions.shared: how many tokens the F and M continuations of each picture share")
    n_pictures = len(questions.continuations)
    if len(features) != n_pictures:
        raise InputError(f"{len(features)} pictures for {n_pictures} lists of continuations; give one list for each picture")
    parts: list[list[Scores]] = []
    with (reporter or SilentReporter()).task(f"{hook}: {sum(group.n_copies for group in copies)} edits", n_pictures, "pictures") as task:
        for start in range(0, n_pictures, pictures_per_batch):
            chosen = range(start, min(start + pictures_per_batch, n_pictures))
            parts.append(_score_batch(loaded, features.take(chosen), questions, list(chosen), hook, copies, where, tokens_per_pass))
            task.advance(len(chosen))
    return [_joined([part[number] for part in parts]) for number in range(len(copies))]


def _check(loaded: LoadedModel, hook: HookPoint, where: str) -> None:
    if where not in WHERE:
        raise InputError(f"edits at {where!r} reach into the picture's prefix; choose one of {', '.join(WHERE)}, or score whole forwards")
    if hook.site != "resid_post":
        raise InputError(f"{hook} is not the residual stream; edits act at resid_post")
    if loaded.adapter.is_prefix_lm:
        raise ModelError(f"the pictures of a {loaded.adapter.family} model read the prompt behind them, so their prefix cannot be frozen; score whole forwards")


def _joined(parts: Sequence[Scores]) -> Scores:
    kl = [part.kl_SN for part in parts if part.kl_SN is not None]
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("picture_E", "continuation_E", "place_E"))
    return Scores(np.concatenate([part.logp_SE for part in parts], axis=1), *columns, np.concatenate(kl, axis=1) if kl else None)


@dataclass(frozen=True, eq=False)
class _Batch:
    """A packed batch ready for any number of edits."""

    packed: UpperRun
    tree: Tree
    mask_BQ: Tensor
    asked_U2: Tensor
    reached_U: Tensor
    """Nodes behind which an edit can change anything: those edited, and what attends to them."""
    asked_of_E: Tensor
    token_E: Tensor
    decision_B: Tensor | None
    """Per picture the entry of `asked_U2` that decides the gender."""


def _score_batch(
    loaded: LoadedModel,
    features: ImageFeatures,
    questions: Questions,
    chosen: list[int],
    hook: HookPoint,
    copies: Sequence[Copies],
    where: str,
    tokens_per_pass: int,
) -> list[Scores]:
    batch = _prepare(loaded, features, questions, chosen, hook, where)
    final_UD = batch.packed.final_BQD[batch.asked_U2[:, 0], batch.asked_U2[:, 1]]
    n_rows, n_nodes, _ = batch.packed.x_BQD.shape
    rows_per_pass = max(1, _LOGITS_PER_PASS // loaded.adapter.vocab_size)
    base_E = torch.empty(len(batch.token_E), device=loaded.device)
    for at in range(0, len(final_UD), rows_per_pass):
        is_here_E = (batch.asked_of_E >= at) & (batch.asked_of_E < at + rows_per_pass)
        base_E[is_here_E] = _logp(loaded, final_UD[at : at + rows_per_pass])[batch.asked_of_E[is_here_E] - at, batch.token_E[is_here_E]]
    baseline_BV = None if batch.decision_B is None else _logp(loaded, final_UD[batch.decision_B])
    step = max(1, min(tokens_per_pass // (n_rows * n_nodes), rows_per_pass // max(1, int(batch.reached_U.sum()))))
    scored = []
    for group in copies:
        slices = [slice(at, min(at + step, group.n_copies)) for at in range(0, group.n_copies, step)]
        passes = [_one_pass(loaded, batch, group, which, base_E, baseline_BV) for which in slices]
        logp_SE = torch.cat([logp for logp, _ in passes]).double().cpu().numpy()
        kl_SN = None if baseline_BV is None else torch.cat([kl for _, kl in passes if kl is not None]).double().cpu().numpy()
        tree = batch.tree
        scored.append(Scores(logp_SE, np.array(chosen)[tree.picture_E], tree.continuation_E, tree.place_E, kl_SN))
    return scored


def _logp(loaded: LoadedModel, x_ND: Tensor) -> Tensor:
    """Log-probabilities (..., V) behind final residual-stream vectors."""
    return torch.log_softmax(loaded.adapter.unembed(x_ND).float(), dim=-1)


def _one_pass(loaded: LoadedModel, batch: _Batch, group: Copies, which: slice, base_E: Tensor, baseline_BV: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities [S, E] and KL at the decision [S, B] of some copies; what no edit reaches is taken from the recorded forward."""
    final_SBQD = replay_upper(batch.packed, group.make(batch.packed.x_BQD, batch.mask_BQ, which))
    reached_R2 = batch.asked_U2[batch.reached_U]
    logp_SRV = _logp(loaded, final_SBQD[:, reached_R2[:, 0], reached_R2[:, 1]])
    place_U = batch.reached_U.cumsum(0) - 1
    is_reached_E = batch.reached_U[batch.asked_of_E]
    logp_SE = base_E.expand(len(logp_SRV), -1).clone()
    logp_SE[:, is_reached_E] = logp_SRV[:, place_U[batch.asked_of_E[is_reached_E]], batch.token_E[is_reached_E]]
    if baseline_BV is None or batch.decision_B is None:
        return logp_SE, None
    is_reached_B = batch.reached_U[batch.decision_B]
    kl_SB = torch.zeros(len(logp_SRV), len(is_reached_B), device=logp_SE.device)
    was_RV = baseline_BV[is_reached_B]
    # Rounding can leave the divergence of two equal distributions a hair below 0.
    kl_SB[:, is_reached_B] = (was_RV.exp() * (was_RV - logp_SRV[:, place_U[batch.decision_B[is_reached_B]]])).sum(-1).clamp(min=0)
    return logp_SE, kl_SB


def _prepare(loaded: LoadedModel, features: ImageFeatures, questions: Questions, chosen: list[int], hook: HookPoint, where: str) -> _Batch:
    """Record the batch (one row per continuation) and pack it into one row per picture."""
    texts = [questions.continuations[picture] for picture in chosen]
    picture_R = [number for number, of_picture in enumerate(texts) for _ in of_picture]
    flat = [text for of_picture in texts for text in of_picture]
    whole = build_inputs(loaded, features.take(picture_R), [questions.prompt] * len(flat), flat, padding="right", use_chat_template=questions.use_chat_template)
    # The last token of a continuation is asked for, never fed.
    inputs = whole.with_captions([ids[:-1] for ids in whole.captions], padding="right")
    n_prompt, start = _prompt_and_start(inputs, where)
    ids_R = iter(whole.captions)
    tree = build_tree([[next(ids_R) for _ in of_picture] for of_picture in texts], n_prompt - start)
    recorded = record_upper(loaded.adapter.layers, hook.layer, lambda: run(loaded, piece_of(inputs), logits="none"), start)
    packed = pack(recorded, tree)
    asked_U2, asked_of_E = np.unique(np.stack([tree.picture_E, tree.node_E], axis=1), axis=0, return_inverse=True)
    mask_BQ = _edited_nodes(tree, questions, chosen, where)
    genders = None if questions.genders is None else [questions.genders[picture] for picture in chosen]
    reached_BQ = (tree.attends_BQQ & mask_BQ[:, None, :]).any(-1)
    reached_U = reached_BQ[asked_U2[:, 0], asked_U2[:, 1]]
    tensors = [torch.from_numpy(array).to(loaded.device) for array in (mask_BQ, asked_U2, reached_U, asked_of_E.reshape(-1), tree.token_E)]
    decision = None if genders is None else torch.from_numpy(_decision_entries(asked_U2, _decision_nodes(tree, genders))).to(loaded.device)
    return _Batch(packed, tree, *tensors, decision)


def _decision_entries(asked_U2: np.ndarray, node_B: np.ndarray) -> np.ndarray:
    """The entry of `asked_U2` [B] of each picture's decision node: F and M part behind it, so something is asked there."""
    entry_of = {(picture, node): entry for entry, (picture, node) in enumerate(asked_U2.tolist())}
    return np.array([entry_of[picture, node] for picture, node in enumerate(node_B.tolist())])


def _edited_nodes(tree: Tree, questions: Questions, chosen: Sequence[int], where: str) -> np.ndarray:
    """The nodes [B, Q] that an edit may change."""
    if where != "decision":
        return tree.is_caption_BQ if where == "caption" else tree.real_BQ
    assert questions.shared is not None
    shared_E = np.array([questions.shared[picture] for picture in chosen])[tree.picture_E]
    # The token at place `shared` is asked for behind the node of the decision position, in every continuation that is long enough.
    at_decision_E = tree.place_E == shared_E
    mask_BQ = np.zeros_like(tree.real_BQ)
    mask_BQ[tree.picture_E[at_decision_E], tree.node_E[at_decision_E]] = True
    return mask_BQ


def _prompt_and_start(inputs: ModelInputs, where: str) -> tuple[int, int]:
    """(tokens of the prompt, first replayed column), the same in all rows; InputError where rows differ."""
    lengths, images = set(inputs.prompt_length_B.tolist()), set((~inputs.after_image_BT).sum(1).tolist())
    if len(lengths) > 1 or len(images) > 1:
        raise InputError("pictures or prompts of one batch differ in length; score pictures of one size and one prompt at a time")
    n_prompt = lengths.pop()
    # The distribution behind the last prompt token is always asked for, so that token is replayed too.
    return n_prompt, images.pop() if where == "after_image" else n_prompt - 1


def _decision_nodes(tree: Tree, genders: Sequence[Sequence[str]]) -> np.ndarray:
    """The node [B] behind which F and M continuations part: the deepest that all of them pass."""
    nodes = np.zeros(len(genders), dtype=np.int64)
    for picture, of_picture in enumerate(genders):
        is_binary_E = (tree.picture_E == picture) & np.isin(np.array(of_picture)[np.where(tree.picture_E == picture, tree.continuation_E, 0)], ("F", "M"))
        passed = [set(tree.node_E[is_binary_E & (tree.continuation_E == number)]) for number, gender in enumerate(of_picture) if gender in ("F", "M")]
        if not passed:
            raise InputError(f"picture {picture} has neither F nor M continuations; leave it out")
        nodes[picture] = max(set.intersection(*passed))
    return nodes
