"""`mechanistic --only attribution|patching`: which parts of the model write the gender, and along which way it comes from the picture."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import ModelError, NotEnoughData
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.activation_source import nan_to_null
from saebias.stages.mechanistic import left_out_or
from saebias.stages.model_access import (
    batches,
    closed_set_of,
    closed_sets,
    features_of,
    model_files,
    needs_pictures,
    open_model,
    prompts,
    refuse_text_only,
    samples_of,
    spoken,
)
from saebias.stages.scene_pairs import PicturePair, picture_pairs, spread_evenly

if TYPE_CHECKING:
    from saebias.mechanistic.decisions import Decisions
    from saebias.mechanistic.logit_attribution import LogitAttribution
    from saebias.mechanistic.patching import GapsOfPatches
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.loading import LoadedModel

SITES = ("resid_post", "attn_out", "mlp_out")


class Asker:
    """Puts pictures of known contexts before the model, in every language that has beginnings for them."""

    def __init__(self, ctx: StageContext, loaded: LoadedModel) -> None:
        self.loaded, self.sets, self.prompts = loaded, closed_sets(ctx), prompts(ctx.cfg)
        self.languages, self.template = spoken(ctx), ctx.cfg.model.chat_template

    def served(self, context: str | None) -> bool:
        """Whether a context has beginnings that say the gender, in every language."""
        return all(closed_set_of(self.sets, context, language) is not None for language in self.languages)

    def ask(self, features: ImageFeatures, contexts: Sequence[str | None]) -> dict[str, Decisions]:
        """The decisions of every language about the same pictures."""
        from saebias.mechanistic.decisions import decisions_of

        found = {}
        for language in self.languages:
            chosen = [closed_set_of(self.sets, context, language) for context in contexts]
            known = [each for each in chosen if each is not None]
            assert len(known) == len(contexts), "only served contexts are asked for"
            texts = [each.female for each in known], [each.male for each in known]
            found[language] = decisions_of(self.loaded, features, [self.prompts[language]] * len(known), *texts, use_chat_template=self.template)
        return found


def run_attribution(ctx: StageContext) -> None:
    """Direct logit attribution at the deciding position, per component, language and visual gender."""
    for name in ctx.pending(["attribution"]):
        rows = left_out_or(ctx, "attribution", lambda: attribution_rows(ctx), [])
        with ctx.unit(name) as out:
            out.rows("logit_attribution", rows)


@contextmanager
def _structure_needed(what: str) -> Generator[None]:
    """A model whose parts cannot be told apart lacks what one tool needs: that is left out and said, the others go on."""
    try:
        yield
    except ModelError as error:
        raise NotEnoughData(f"mechanistic: {what} does not work with this model: {error}") from error


def attribution_rows(ctx: StageContext) -> list[dict[str, Any]]:
    """Rows of `logit_attribution`, from at most `mechanistic.images` pictures of women, of men and of ambiguous people in the report split."""
    refuse_text_only(ctx.cfg)
    loaded = open_model(ctx.cfg)
    asker, n = Asker(ctx, loaded), ctx.cfg.mechanistic.images
    pool = [row for row in samples_of(ctx) if row["split"] == "report" and row["visual_gender"] and asker.served(row["context"])]
    chosen = [row for gender in ("F", "M", "A") for row in spread_evenly([r for r in pool if r["visual_gender"] == gender], n, ctx.cfg.seed)]
    if not chosen:
        raise NotEnoughData("mechanistic: no picture of the report split has a known visual gender and beginnings that say one; see data.continuations")
    parts: dict[str, list[LogitAttribution]] = {language: [] for language in asker.languages}
    with _structure_needed("logit attribution"), ctx.reporter.task("attributing logits", len(chosen), "images") as task:
        for rows in batches(chosen, ctx.cfg.runtime.batch_size):
            for language, decisions in asker.ask(features_of(loaded, rows), [row["context"] for row in rows]).items():
                parts[language].append(_attributed(loaded, decisions))
            task.advance(len(rows))
    gender, cluster = [row["visual_gender"] for row in chosen], [row["cluster_id"] for row in chosen]
    cfg = ctx.cfg.mechanistic
    found = [_joined(parts[language]).rows(language, gender, cluster, seed=ctx.seed("attribution"), n_draws=cfg.bootstrap) for language in asker.languages]
    return [nan_to_null(asdict(row)) for rows in found for row in rows]


def _attributed(loaded: LoadedModel, decisions: Decisions) -> LogitAttribution:
    from saebias.mechanistic.logit_attribution import attribute_logits, check_parts, likeliest_ids, record_parts

    parts, final_ND = record_parts(loaded, decisions)
    check_parts(parts, final_ND)
    logits_NV = loaded.adapter.unembed(final_ND)
    female, male = (likeliest_ids(logits_NV, ids) for ids in (decisions.female_ids, decisions.male_ids))
    return attribute_logits(loaded.adapter, parts, female, male, final_ND=final_ND)


def _joined(parts: Sequence[LogitAttribution]) -> LogitAttribution:
    from saebias.mechanistic.logit_attribution import LogitAttribution

    contribution_CN = np.concatenate([part.contribution_CN for part in parts], axis=1)
    return LogitAttribution(parts[0].components, contribution_CN, np.concatenate([part.total_N for part in parts]), max(p.largest_error for p in parts))


def run_patching(ctx: StageContext) -> None:
    """Effects of every component on the gap, patched between the woman's and the man's picture of the same scene, both ways."""
    for name in ctx.pending(["patching"]):
        rows = left_out_or(ctx, "patching", lambda: patching_rows(ctx), [])
        with ctx.unit(name) as out:
            out.rows("patching", rows)


def patching_rows(ctx: StageContext) -> list[dict[str, Any]]:
    """Rows of `patching`, from at most `mechanistic.images` pairs of pictures."""
    from saebias.mechanistic.patching import DIRECTIONS, join_batches, patch_rows

    refuse_text_only(ctx.cfg)
    cfg = ctx.cfg.mechanistic
    pairs = picture_pairs(ctx, cfg.images)
    loaded = open_model(ctx.cfg)
    asker = Asker(ctx, loaded)
    pairs = [pair for pair in pairs if asker.served(pair.context)]
    if not pairs:
        raise NotEnoughData("mechanistic: no pair of pictures has beginnings that say a gender in every language; see data.continuations")
    found: dict[tuple[str, str], list[GapsOfPatches]] = {(way, language): [] for way in DIRECTIONS for language in asker.languages}
    with _structure_needed("patching"), ctx.reporter.task("patching scenes", len(pairs), "scenes") as task:
        for start in range(0, len(pairs), ctx.cfg.runtime.batch_size):
            some = pairs[start : start + ctx.cfg.runtime.batch_size]
            for place, gaps in _patched(asker, some).items():
                found[place].append(gaps)
            task.advance(len(some))
    clusters = [pair.cluster for pair in pairs]
    drawn = {"seed": ctx.seed("patching"), "n_draws": cfg.bootstrap}
    told = [patch_rows(join_batches(parts), language, clusters, direction=way, **drawn) for (way, language), parts in found.items()]
    return [nan_to_null(asdict(row)) for rows in told for row in rows]


def _patched(asker: Asker, pairs: Sequence[PicturePair]) -> dict[tuple[str, str], GapsOfPatches]:
    """The gaps per direction and language."""
    from saebias.identifiers import HookPoint
    from saebias.mechanistic.patching import DIRECTIONS, GapsOfPatches, patch_scenes
    from saebias.mechanistic.scene_runs import ScenePair
    from saebias.mechanistic.tower_patching import patch_tower
    from saebias.vlm.images import encode_images

    loaded, contexts = asker.loaded, [pair.context for pair in pairs]
    women, men = [pair.woman for pair in pairs], [pair.man for pair in pairs]
    asked = [asker.ask(encode_images(loaded, pictures, batch_size=len(pictures)), contexts) for pictures in (women, men)]
    scenes = {language: ScenePair(asked[0][language], asked[1][language]) for language in asker.languages}
    hooks = [HookPoint(layer, site) for layer in range(loaded.adapter.n_layers) for site in SITES]
    found = {}
    for way, (donors, receivers) in zip(DIRECTIONS, ((women, men), (men, women)), strict=True):
        ordered = {language: pair if donors is women else pair.turned() for language, pair in scenes.items()}
        tower = patch_tower(loaded, donors, receivers, lambda features: asker.ask(features, contexts))
        for language, gaps in patch_scenes(loaded, ordered, hooks).items():
            of_tower = {place: gap_N.cpu().numpy() for place, gap_N in tower[language].items()}
            found[way, language] = GapsOfPatches(gaps.woman_N, gaps.man_N, {**of_tower, **gaps.patched})
    return found


def _estimate(seconds_per_image: float):
    def estimate(cfg: Config) -> Estimate:
        return Estimate(2**18, 900 * 2**20, 3 + seconds_per_image * cfg.mechanistic.images)

    return estimate


MECHANISTIC_ATTRIBUTION = Stage(
    name="mechanistic.attribution",
    run=run_attribution,
    help="which components write the gender",
    needs=("prepare",),
    reads=("model", "mechanistic.images", "mechanistic.bootstrap"),
    tables=("logit_attribution",),
    unfit=needs_pictures,
    inputs=model_files,
    estimate=_estimate(0.03),
)
MECHANISTIC_PATCHING = Stage(
    name="mechanistic.patching",
    run=run_patching,
    help="where gender enters, and by which tokens it travels",
    needs=("prepare",),
    reads=("model", "data", "mechanistic.images", "mechanistic.pairs", "mechanistic.bootstrap"),
    tables=("patching",),
    unfit=needs_pictures,
    inputs=lambda cfg: [*model_files(cfg), *([] if cfg.mechanistic.pairs is None else [cfg.mechanistic.pairs])],
    estimate=_estimate(0.4),
    version=2,
)
