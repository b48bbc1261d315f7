"""`steer`: interventions beside their controls. Layer and strength are chosen on the select split, every effect is reported on the report split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from saebias.config.schema import Config
from saebias.errors import InputError, NotEnoughData
from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.label_access import lexicon_files
from saebias.stages.model_access import closed_sets, features_of, model_files, needs_pictures, open_model, prompts, refuse_text_only
from saebias.stages.steer_exact import exact_tables
from saebias.stages.steer_setup import Known, Scene, chosen_latents, known_from_select, make_scene

if TYPE_CHECKING:
    from saebias.stages.dictionaries import Dictionary
    from saebias.steering.arms import Arm
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.loading import LoadedModel

LAYER_IMAGES = 48
"""Ambiguous (and clear) images that layers are compared on."""
TABLES = ("steering_effects", "steering_random_sets", "matching_balance", "steered_captions", "latent_effects", "estimate_checks")


@dataclass
class Bench:
    """What all units share, made when first asked for: model, dictionaries, samples, features."""

    ctx: StageContext

    @cached_property
    def loaded(self) -> LoadedModel:
        return open_model(self.ctx.cfg)

    @cached_property
    def dictionaries(self) -> dict[int, Dictionary]:
        from saebias.stages.dictionaries import main_dictionaries

        return {d.hook.layer: d for d in main_dictionaries(self.ctx) if d.hook.site == "resid_post"}

    @cached_property
    def samples(self) -> dict[str, dict[str, Any]]:
        return {row["sample_id"]: row for row in self.ctx.table("samples").to_pylist()}

    @cached_property
    def feature_scores(self) -> list[dict[str, Any]]:
        """The score of every latent."""
        return self.ctx.table("feature_scores").to_pylist()

    @cached_property
    def languages(self) -> list[str]:
        """The languages whose stereotype latents were found."""
        found = {row["language"] for row in self.ctx.table("feature_sets").to_pylist() if row["target"] == "stereotype"}
        return [language for language in LANGUAGES if language in found]

    def scene(self, language: str, split: str, n_ambiguous: int, n_clear: int) -> Scene:
        """The images of a language and split."""
        limits = (n_ambiguous, n_clear)
        usable = [row for row in self.samples.values() if row[f"caption_{language}"] is not None]
        prompt, template = prompts(self.ctx.cfg)[language], self.ctx.cfg.model.chat_template
        return make_scene(self.loaded, usable, closed_sets(self.ctx), prompt, language, split, limits, seed=self.ctx.seed("images"), template=template)

    def main_scene(self, language: str, split: str) -> Scene:
        """The images that effects are measured on."""
        return self.scene(language, split, self.ctx.cfg.steer.images, max(20, self.ctx.cfg.steer.images // 2))

    def features(self, scene: Scene) -> ImageFeatures:
        """The pictures of a scene through the vision tower."""
        return features_of(self.loaded, scene.samples)

    def known(self, layer: int, language: str) -> Known:
        """Means, profile and directions of a layer and language, from select."""
        from saebias.stages.token_index import token_index
        from saebias.stages.train import activations_path
        from saebias.store.arrays import ActivationArray

        gaps = {row["sample_id"]: row["gap"] for row in self.ctx.table("exact_probabilities").to_pylist() if row["language"] == language}
        array = ActivationArray(activations_path(self.ctx))
        return known_from_select(self.dictionaries[layer], array, token_index(self.ctx), self.samples, language, gaps, self.ctx.cfg.steer.positions)

    def arms(self, layer: int, language: str, strengths: list[float]) -> list[Arm]:
        """All arms of a layer and language: controls, ablations of every set, differences of means."""
        from saebias.steering.arms import ablation_arms, control_arms, direction_arms, projection_arms

        known, sae = self.known(layer, language), self.dictionaries[layer].sae
        arms = control_arms(sae) + ablation_arms(sae, chosen_latents(self.ctx, layer), strengths, known.mean_F)
        arms += projection_arms(known.directions, known.toward, strengths)
        return arms + direction_arms(known.directions, strengths, seed=self.ctx.seed(f"directions-{language}"))


def run_steer(ctx: StageContext) -> None:
    """Layer, then doses on select, then effects, matched random sets and captions on report."""
    bench = Bench(ctx)
    try:
        _run_units(ctx, bench)
    except NotEnoughData as error:
        # Written whole, so that the report can be made and says why there is nothing here.
        ctx.reporter.warn(f"steer is left out: {error}", alarm=True)
        for name in ctx.pending(["left-out"]):
            with ctx.unit(name) as out:
                for table in TABLES:
                    out.rows(table, [])


def _run_units(ctx: StageContext, bench: Bench) -> None:
    refuse_text_only(ctx.cfg)
    if not bench.languages:
        raise NotEnoughData("no language has a set of stereotype latents; see what analyze left out")
    for name in ctx.pending(["layer"]):
        rows = _layer_rows(bench)
        with ctx.unit(name) as out:
            out.rows("steering_effects", rows)
    layers = {language: chosen_layer(ctx, language) for language in bench.languages}
    chosen = " (chosen on select)" if ctx.cfg.steer.layer is None else ""
    ctx.reporter.info("steer: " + ", ".join(f"{language} at layer {layer}" for language, layer in layers.items()) + chosen)
    parts = {"exact": exact_tables, "select": _select_tables, "report": _report_tables, "captions": _caption_tables}
    for part, compute in parts.items():
        for language in bench.languages:
            for name in ctx.pending([f"{part}-{language}"]):
                tables = compute(bench, layers[language], language)
                with ctx.unit(name) as out:
                    for table, rows in tables.items():
                        out.rows(table, rows)


def _layer_rows(bench: Bench) -> list[dict[str, Any]]:
    """On select, what ablating the stereotype latents of each layer does, dose by dose; nothing of it is reported."""
    from saebias.stages.steer_measure import measure, table_rows
    from saebias.steering.arms import ablation_arms, control_arms

    wanted = bench.ctx.cfg.steer.layer
    if wanted is not None and wanted not in bench.dictionaries:
        raise InputError(f"steer.layer={wanted}: there is no dictionary of that layer; there are {', '.join(map(str, bench.dictionaries))}")
    rows: list[dict[str, Any]] = []
    for language in bench.languages:
        scene = bench.scene(language, "select", LAYER_IMAGES, LAYER_IMAGES // 2)
        features = bench.features(scene)
        for layer, dictionary in bench.dictionaries.items():
            if wanted is not None and layer != wanted:
                continue
            own = {name: latents for name, latents in chosen_latents(bench.ctx, layer).items() if name == f"stereotype/{language}"}
            arms = control_arms(dictionary.sae)[:1] + ablation_arms(dictionary.sae, own, bench.ctx.cfg.steer.strengths, bench.known(layer, language).mean_F)
            found = measure(bench.ctx, bench.loaded, features, scene, dictionary.hook, arms)
            rows += [{**row, "note": "; ".join(filter(None, ["choice of layer", row["note"]]))} for row in table_rows(found.rows)]
    return rows


def chosen_layer(ctx: StageContext, language: str) -> int:
    """The layer to steer in a language: the configured one, else the one where the best dose within the budgets leaves least stereotype.

    Each language has its own, because each has its own latents and deciding token. Read from the rows of select, so that a resumed run chooses the same.
    """
    from saebias.stages.steer_choice import budgets, select_points
    from saebias.steering.frontier import choose_layer

    if ctx.cfg.steer.layer is not None:
        return ctx.cfg.steer.layer
    return choose_layer(select_points(ctx, "choice of layer", ("A0", "A3"), language=language), budgets(ctx))


def _select_tables(bench: Bench, layer: int, language: str) -> dict[str, list[dict[str, Any]]]:
    from saebias.stages.steer_measure import measure, table_rows

    scene = bench.main_scene(language, "select")
    arms = bench.arms(layer, language, list(bench.ctx.cfg.steer.strengths))
    found = measure(bench.ctx, bench.loaded, bench.features(scene), scene, bench.dictionaries[layer].hook, arms)
    rows = [{**row, "note": "; ".join(filter(None, ["dose on select", row["note"]]))} for row in table_rows(found.rows)]
    return {"steering_effects": rows}


def _report_tables(bench: Bench, layer: int, language: str) -> dict[str, list[dict[str, Any]]]:
    from saebias.features.selection import assert_disjoint
    from saebias.stages.steer_choice import choices_on_select, debias_rows, random_arms, strength_of, without_p
    from saebias.stages.steer_measure import measure, measure_sets, table_rows
    from saebias.steering.effects import against_random_sets

    ctx, hook = bench.ctx, bench.dictionaries[layer].hook
    scene, select = bench.main_scene(language, "report"), bench.main_scene(language, "select")
    assert_disjoint([s["context"] for s in select.samples], [s["context"] for s in scene.samples], "contexts")
    features = bench.features(scene)
    arms = bench.arms(layer, language, list(ctx.cfg.steer.strengths))
    found = measure(ctx, bench.loaded, features, scene, hook, arms)
    chosen = choices_on_select(ctx, layer, language)
    groups, balance, unlike = random_arms(
        bench, layer, language, {f"{t}/{language}": strength_of(ctx, chosen, f"{t}/{language}") for t in ("stereotype", "visible")}
    )
    rows = list(found.rows)
    drawn: list[dict[str, Any]] = []
    for group, values in zip(groups, measure_sets(ctx, bench.loaded, features, scene, hook, found.closed[0], groups), strict=True):
        rows, some = against_random_sets(rows, values, group.label, found.place)
        drawn += [{**vars_of(row), "strength": group.strength} for row in some]
    return {
        "steering_effects": table_rows(without_p(rows, unlike) + debias_rows(chosen, found, select, scene)),
        "steering_random_sets": drawn,
        "matching_balance": balance,
    }


def vars_of(row: Any) -> dict[str, Any]:
    """A flat dataclass as a row, NaN as null."""
    from dataclasses import asdict

    from saebias.stages.behavior_metrics import none_if_nan

    values = asdict(row)
    return {**values, "value": none_if_nan(values["value"])}


def _caption_tables(bench: Bench, layer: int, language: str) -> dict[str, list[dict[str, Any]]]:
    from saebias.stages.steer_choice import choices_on_select, strength_of
    from saebias.stages.steer_measure import steered_captions, table_rows

    ctx = bench.ctx
    half = max(1, ctx.cfg.steer.caption_images // 2)
    scene = bench.scene(language, "report", ctx.cfg.steer.caption_images - half or 1, half)
    chosen = choices_on_select(ctx, layer, language)
    own = {f"{target}/{language}": strength_of(ctx, chosen, f"{target}/{language}") for target in ("stereotype", "visible")}
    arms = [
        arm
        for arm in bench.arms(layer, language, sorted({*ctx.cfg.steer.strengths, *own.values()}))
        if arm.arm in ("A0", "A1", "A2")
        or (arm.arm == "A3" and own.get(arm.target) == arm.strength)
        or (arm.arm == "A8" and "project" in arm.name and own.get(arm.target) == arm.strength)
    ]
    rows, effects, alarms = steered_captions(ctx, bench.loaded, bench.features(scene), scene, bench.dictionaries[layer].hook, arms)
    for sentence in alarms:
        ctx.reporter.warn(f"steer ({language}): {sentence}", alarm=True)
    return {"steered_captions": rows, "steering_effects": table_rows(effects)}


def _estimate(cfg: Config) -> Estimate:
    # Measured on the demonstration: an arm takes 4 ms an image on two cores, a matched random set 1 ms.
    arms = 2 * 2 * (3 + len(cfg.steer.strengths) * 8)
    return Estimate(8 * 2**20, 1.2 * 2**30, 10 + cfg.steer.images * 1.5 * (arms * 0.004 + 4 * cfg.steer.random_sets * 0.001))


STEER = Stage(
    name="steer",
    run=run_steer,
    help="interventions beside their controls",
    needs=("prepare", "extract", "train", "analyze.behavior", "analyze.features"),
    reads=("model", "labels", "steer", "analyze.bootstrap"),
    tables=TABLES,
    unfit=needs_pictures,
    inputs=lambda cfg: [*model_files(cfg), *lexicon_files(cfg)],
    estimate=_estimate,
    version=2,
)
