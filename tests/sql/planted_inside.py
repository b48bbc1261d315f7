"""Planted rows of what lies inside the model: dictionaries and latents, interventions, lens, probes, alignment."""

from __future__ import annotations

import math

import numpy as np
from planted_professions import LANGUAGES, PROFESSIONS, planted_share

LAYERS = 8


def dictionary_rows(rng: np.random.Generator) -> dict[str, list[dict[str, object]]]:
    """Dictionaries, their quality and their latents: latent 0 of layer 5 is the strongest and carries gender in both languages."""
    saes, history, quality, scores, sets = [], [], [], [], []
    for layer in range(LAYERS):
        key = f"L{layer:02d}.resid_post-s0"
        saes.append(
            {"sae_id": key, "layer": layer, "site": "resid_post", "architecture": "topk", "d_model": 192, "n_latents": 768, "k": 32, "seed": 0, "steps": 300}
            | {"train_rows": 40000, "learning_rate": 0.003, "fvu": 0.05 + 0.02 * layer, "l0": 32.0, "dead_share": 0.01 * layer, "tokens_per_second": 9e4}
            | {"seconds": 5.0, "frozen_decoder": False, "path": f"{key}.safetensors", "role": "main", "kept_step": 300, "outlier_rows": 0}
        )
        for step in range(0, 301, 60):
            history.append(
                {"sae_id": key, "step": step, "fvu": 0.05 + 0.02 * layer + math.exp(-step / 60), "l0": 32.0, "dead_share": 0.0, "learning_rate": 0.003}
                | {"tokens_per_second": 9e4, "loss": 0.1, "gradient_norm": 0.5}
            )
        for kind in ("image", "prompt", "caption"):
            for language in LANGUAGES:
                fvu = None if kind == "prompt" and layer == 0 else 0.05 + 0.02 * layer + 0.01 * len(kind) + 0.005 * (language == "ar")
                quality.append(
                    {
                        "sae_id": key,
                        "layer": layer,
                        "token_kind": kind,
                        "language": language,
                        "split": "report",
                        "fvu": fvu,
                        "l0": 32.0 - len(kind),
                        "dead_share": 0.01 * layer + 0.02 * (kind == "image"),
                    }
                    | {
                        "decoder_cosine": 0.9,
                        "nearest_cosine": 0.4,
                        "density_median": 0.01,
                        "density_high": 0.2,
                        "n_rows": 900,
                        "note": None if fvu is not None else "the variance of the rows is zero",
                    }
                )
        for language in LANGUAGES:
            for target in ("visible", "stereotype"):
                for latent in range(40):
                    strength = 0.46 * math.exp(-latent / 6) * math.exp(-((layer - 5) ** 2) / 8)
                    # Latent 0 of layer 5 is the strongest and carries gender in both languages; odd latents point to men.
                    value = 0.5 + strength * (1 if latent % 2 == 0 else -1)
                    index = latent if latent < 10 else latent + (100 if language == "ar" else 0)
                    scores.append(
                        {"sae_id": key, "layer": layer, "latent": index, "language": language, "target": target, "method": "auroc", "value_select": value}
                        | {"p": 10 ** (-20 * strength), "q": min(1.0, 10 ** (-19 * strength)), "value_report": 0.5 + (value - 0.5) * 0.92}
                        | {
                            "low": 0.5 + (value - 0.5) * 0.92 - 0.03,
                            "high": 0.5 + (value - 0.5) * 0.92 + 0.03,
                            "firing_rate": 0.2,
                            "selected": latent < 8 and layer == 5,
                        }
                    )
                    if latent < 8 and layer == 5:
                        sets.append(
                            {"set_name": f"{target}-{language}", "sae_id": key, "layer": layer, "language": language, "target": target, "rank": latent + 1}
                            | {"latent": index, "score": abs(value - 0.5)}
                        )
    return {"saes": saes, "sae_history": history, "sae_quality": quality, "feature_scores": scores, "feature_sets": sets} | trust_rows(saes)


def trust_rows(saes: list[dict[str, object]]) -> dict[str, list[dict[str, object]]]:
    """What says how far the dictionaries can be trusted; adds a second seed and a control of layer 5 to `saes`; even latents are stable."""
    main = next(row for row in saes if row["layer"] == 5)
    seed = main | {"sae_id": "L05.resid_post-s1", "seed": 1, "role": "seed"}
    control = main | {"sae_id": "L05.resid_post-s0.frozen", "role": "control", "frozen_decoder": True, "fvu": 0.5}
    saes += [seed, control]
    pairs, matches = [], []
    for other, share, cosine in ((seed, 0.6, 0.85), (control, 0.0, 0.3)):
        pairs.append(
            {"sae_id": main["sae_id"], "other_sae_id": other["sae_id"], "layer": 5, "other_role": other["role"], "n_latents": 768, "n_live": 700}
            | {"n_matched": 700, "n_stable": round(700 * share), "stable_share": share, "mean_cosine": cosine, "mean_correlation": cosine - 0.1}
            | {"null_cosine": 0.28, "null_cosine_high": 0.36, "n_rows": 4096}
        )
        for latent in range(40):
            stable = other is seed and latent % 2 == 0
            matches.append(
                {"sae_id": main["sae_id"], "other_sae_id": other["sae_id"], "layer": 5, "latent": latent, "other_latent": 40 - latent, "p": 0.001}
                | {"cosine": 0.9 if stable else 0.3, "correlation": 0.8 if stable else 0.1, "stable": stable}
            )
    losses, controls, density = [], [], []
    for row in saes:
        if row["role"] != "seed":
            rebuilt = 1.02 if row["role"] == "main" else 1.8
            for language in LANGUAGES:
                losses.append(
                    {"sae_id": row["sae_id"], "layer": row["layer"], "language": language, "split": "report", "ce_untouched": 1.0, "ce_rebuilt": rebuilt}
                    | {"ce_mean_ablated": 2.0, "ce_zero_ablated": 3.0, "recovered_mean": 2 - rebuilt, "recovered_zero": (3 - rebuilt) / 2}
                    | {"n_samples": 32, "n_tokens": 400, "note": None}
                )
                if row["layer"] == 5:
                    for labels in ("true", "permuted"):
                        found = 90 if labels == "true" and row["role"] == "main" else 0
                        controls.append(
                            {"sae_id": row["sae_id"], "layer": 5, "role": row["role"], "language": language, "split": "select", "labels": labels}
                            | {
                                "n_live": 300,
                                "n_found": found,
                                "share_found": found / 300,
                                "largest_effect": 0.4 if found else 0.1,
                                "n_images": 96,
                                "note": None,
                            }
                        )
        for low, count in ((0.001, 100), (0.01, 400), (0.1, 200)):
            density.append({"sae_id": row["sae_id"], "layer": row["layer"], "low": low, "high": 10 * low, "n_latents": count})
    return {"sae_stability": pairs, "latent_matches": matches, "sae_cross_entropy": losses, "latent_controls": controls, "sae_density": density}


ARMS = [
    ("A0", "hook that does nothing", "none", [0.0]),
    ("A1", "reconstruct only", "none", [1.0]),
    ("A2", "reconstruct, error kept", "none", [1.0]),
    ("A3", "ablate latents, error kept", "visible", [0.25, 0.5, 0.75, 1.0]),
    ("A3", "ablate latents, error kept", "stereotype", [0.25, 0.5, 0.75, 1.0]),
    ("A8", "difference of means, projected out", "visible", [0.25, 0.5, 0.75, 1.0]),
]


def steering_rows(rng: np.random.Generator, samples: list[dict], skewed: bool) -> dict[str, list[dict[str, object]]]:
    """Effects of the arms, their random sets and balance, captions before and after."""
    effects, random_sets, balance, captions = [], [], [], []
    start = {"en": (0.24, 0.06), "ar": (0.23, 0.17)} if skewed else {"en": (0.004, 0.002), "ar": (0.004, 0.001)}
    for language in LANGUAGES:
        spread, default = start[language]
        for arm, name, target, strengths in ARMS:
            for split in ("select", "report"):
                for strength in strengths:
                    kept = 1 - {"none": 0.0, "visible": 0.45 if arm == "A3" else 0.6, "stereotype": 0.8}[target] * strength
                    harm = {"none": 0.0, "visible": 0.42 if arm == "A3" else 0.25, "stereotype": 0.015}[target] * strength**2
                    values = {"stereotype_spread": spread * kept, "masculine_default": default * kept, "clear_harm": harm, "clear_wrong": harm * 0.7}
                    values |= {"clear_neutral": harm * 0.3, "clear_accuracy": 0.97 - harm, "kl_to_baseline": 2 * harm + 0.1 * (1 - kept), "length_ratio": 1.0}
                    values |= {"cross_entropy_rise": 0.02 * strength if target != "none" else 0.0}
                    for metric, value in values.items():
                        effects.append(
                            {"arm": arm, "arm_name": name, "target": target, "layer": 5, "language": language, "split": split, "strength": strength}
                            | {"metric": metric, "value": value, "low": value - 0.015, "high": value + 0.015, "p": 0.005 if arm == "A3" else None}
                            | {"n_images": 64, "n_clusters": 32, "note": None}
                        )
        for target in ("visible", "stereotype"):
            for number in range(199):
                for metric, centre, width in (("stereotype_spread", spread, 0.01), ("masculine_default", default, 0.008), ("clear_harm", 0.0, 0.004)):
                    value = centre + rng.normal(0, width)
                    random_sets.append(
                        {"set_no": number, "target": target, "layer": 5, "language": language, "strength": 1.0, "metric": metric, "value": value}
                    )
            for covariate, difference in (("log firing rate", 0.03), ("mean when active", -0.06), ("decoder norm", 0.01), ("share on image tokens", 0.13)):
                balance.append(
                    {"sae_id": "L05.resid_post-s0", "target": target, "language": language, "covariate": covariate, "target_mean": 0.2}
                    | {"random_mean": 0.2 - difference / 10, "standardized_difference": difference}
                )
    forms = {p[0]: p for p in PROFESSIONS}
    for sample in (s for s in samples if s["split"] == "report" and s["visual_gender"] == "A"):
        name, ar_f, ar_m = forms[str(sample["context"])][:3]
        for language in LANGUAGES:
            was_man = planted_share(forms[str(sample["context"])], language, skewed) < 0.5
            texts = {True: f"a man {name} with a red kite", False: f"a woman {name} with a red kite"}
            if language == "ar":
                texts = {True: f"{ar_m} مع طائرة ورقية", False: f"{ar_f} مع طائرة ورقية"}
            for target in ("visible", "stereotype"):
                changed = (int(str(sample["sample_id"])[1:]) + (target == "visible")) % 3 == 0
                text = texts[was_man != changed]
                captions.append(
                    {"arm": "A3", "target": target, "strength": 1.0, "sample_id": sample["sample_id"], "language": language, "text": text}
                    | {"baseline": texts[was_man], "label": "M" if was_man != changed else "F", "explicit": True, "n_words": len(text.split())}
                )
    verified, checks = verified_rows(rng)
    return {
        "steering_effects": effects,
        "steering_random_sets": random_sets,
        "matching_balance": balance,
        "steered_captions": captions,
        "latent_effects": verified,
        "estimate_checks": checks,
    }


def verified_rows(rng: np.random.Generator) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Exact single-latent effects with an estimate near them, and how well it agrees (once without a number)."""
    head = {"sae_id": "train/layer4", "layer": 4, "target": "stereotype"}
    effects = [
        head | {"language": language, "latent": latent, "drawn_as": "top" if latent < 8 else "random"}
        | {"exact": exact, "attribution": exact + 0.01 * float(rng.normal()), "chosen_by": exact}
        for language in LANGUAGES
        for latent, exact in enumerate(rng.normal(size=16).tolist())
    ]  # fmt: skip
    counts = {"k": 8, "n_latents": 16, "n_images": 48}
    checks: list[dict[str, object]] = [
        head | counts | {"language": language, "method": "attribution", "rank_correlation": 0.9, "low": 0.7, "high": 0.97, "recall": 0.875, "note": None}
        for language in LANGUAGES
    ]
    nothing = {"rank_correlation": None, "low": None, "high": None, "recall": None, "note": "one side is constant: no correlation"}
    return effects, [*checks, head | counts | {"language": "en", "method": "flat"} | nothing]


def inside_rows(rng: np.random.Generator, samples: list[dict]) -> dict[str, list[dict[str, object]]]:
    """Lens, probes, alignment (one number missing) and the points of the 3-D figure."""
    lens, probes, alignment, points = [], [], [], []
    for layer in range(LAYERS):
        grown = 1 / (1 + math.exp(-(layer - 3.5)))
        for language in LANGUAGES:
            for visual, sign in (("F", 1.0), ("M", -1.0), ("A", -0.15 if language == "en" else -0.4)):
                gap = 6 * sign * grown**2
                lens.append(
                    {"lens": "logit", "layer": layer, "language": language, "visual_gender": visual, "gap": gap, "gap_low": gap - 0.3, "gap_high": gap + 0.3}
                    | {"kl_to_final": 3 * (1 - grown), "entropy": 2.0, "female_rank": 3.0, "male_rank": 1.0, "n_images": 96, "n_clusters": 48}
                )
            for test in LANGUAGES:
                for kind in ("image", "prompt", "caption", "decision"):
                    loss = 0.12 * (1 - grown) if test != language else 0.0
                    accuracy = 0.52 + (0.46 if language == "en" else 0.4) * grown * (1.0 if kind == "decision" else 0.8) - loss
                    probes.append(
                        {"layer": layer, "train_language": language, "test_language": test, "token_kind": kind, "baseline": None, "auroc": accuracy}
                        | {"balanced_accuracy": accuracy, "low": accuracy - 0.04, "high": min(1.0, accuracy + 0.03), "control_accuracy": 0.51}
                        | {"selectivity": accuracy - 0.51, "permuted_accuracy": 0.5, "bits": 0.4, "n_images": 96, "n_clusters": 48, "note": None}
                    )
        for measure, value, floor, ceiling in (
            ("direction_cosine", 0.2 + 0.7 * grown, 0.05, 0.97),
            ("debiased_cka", 0.3 + 0.5 * grown, 0.01, 0.9),
            ("probe_transfer_en_ar", 0.5 + 0.4 * grown, 0.5, 0.55 + 0.43 * grown),
            ("latent_rank_correlation", None if layer == 0 else 0.8 * grown, 0.02, 0.9),
        ):
            alignment.append(
                {
                    "layer": layer,
                    "measure": measure,
                    "value": value,
                    "low": None if value is None else value - 0.05,
                    "high": None if value is None else value + 0.05,
                }
                | {
                    "floor": floor,
                    "ceiling": ceiling,
                    "n_images": 192,
                    "n_clusters": 96,
                    "note": None if value is not None else "no latent is alive in both languages",
                    "p": 0.02 if measure == "debiased_cka" else None,
                }
            )
        if layer in (1, 5, 7):
            for sample in samples:
                for language in LANGUAGES:
                    sign = {"F": 1.0, "M": -1.0, "A": -0.2}[str(sample["visual_gender"])] * 3 * grown
                    x, y, z = rng.normal(0, 0.8, 3) + np.array([sign, 0.5 * sign * (language == "ar"), 0.0])
                    points.append(
                        {"layer": layer, "sample_id": sample["sample_id"], "language": language, "visual_gender": sample["visual_gender"]}
                        | {"context": sample["context"], "x": float(x), "y": float(y), "z": float(z)}
                    )
    for baseline, accuracy in (("pixels", 0.71), ("bag_of_words", 0.5)):
        for language in LANGUAGES:
            probes.append(
                {"layer": None, "train_language": language, "test_language": language, "token_kind": "decision", "baseline": baseline, "auroc": accuracy}
                | {"balanced_accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05, "control_accuracy": 0.5, "selectivity": accuracy - 0.5}
                | {"permuted_accuracy": 0.5, "bits": 0.4, "n_images": 96, "n_clusters": 48, "note": None}
            )
    inside = {"lens": lens, "probes": probes, "alignment": alignment, "gender_projections": points}
    return inside | {"logit_attribution": _attribution(), "patching": _patching()} | _matrices() | _words(samples)


def _matrices() -> dict[str, list[dict[str, object]]]:
    """Spectra whose ranks grow with the layer; one head has no spectrum."""
    spectra, directions = [], []
    places: list[tuple[str, int | None, str | None]] = [("dictionary to words", None, None), ("attention head", 0, None), ("attention head", 1, None)]
    places += [("activations", None, language) for language in LANGUAGES]
    for layer in range(LAYERS):
        for matrix, head, language in places:
            known = not (head == 1 and layer == 0)
            numbers = {"rank": 48 if known else 0, "rank_90": 5 if known else None, "norm": 3.0 * known, "copying": 0.4 if known and head is not None else None}
            numbers |= {
                name: (10.0 + layer) * share if known else None for name, share in (("effective_rank", 3), ("participation_ratio", 1), ("stable_rank", 0.5))
            }
            where = {"matrix": matrix, "layer": layer, "head": head, "language": language}
            spectra.append(where | numbers | {"n_rows": 192, "n_columns": 192, "n_inner": 48, "reason": None if known else "all values are 0: no spectrum"})
            words = {"tokens_raised": "woman | طباخة", "tokens_lowered": "man | طباخ"}
            directions += [where | words | {"direction": number, "singular_value": 9.0 / number, "energy_share": 0.5 / number} for number in (1, 2)]
    return {"factored_matrices": spectra, "singular_directions": directions}


def _words(samples: list[dict]) -> dict[str, list[dict[str, object]]]:
    """Layers name the gendered word more and more; image tokens stand near it; the tuned lens halves the divergence."""
    tokens, near, fits = [], [], []
    for layer in range(LAYERS):
        for language, words in (("en", ("woman", "man", "a")), ("ar", ("طباخة", "طباخ", "يقف"))):
            for shown in ("F", "M", "A"):
                tokens += [
                    {"layer": layer, "language": language, "visual_gender": shown, "place": place, "token": token, "mean_probability": (layer + 1) / 16 / place}
                    for place, token in enumerate(words, start=1)
                ]
        for sample in samples[:3]:
            near += [
                {"layer": layer, "sample_id": sample["sample_id"], "position": n, "token": "طباخة" if n % 3 else "woman", "share": 0.6, "cosine": 0.5}
                for n in range(16)
            ]
        fits += [{"token_kind": kind, "layer": layer, "kl_before": 2.0, "kl_after": 1.0, "n_fitted": 900, "n_held_out": 300} for kind in ("image", "text")]
    return {"lens_tokens": tokens, "image_neighbours": near, "lens_fits": fits}


def _attribution() -> list[dict[str, object]]:
    """Contributions that sum: attention of layer 3 writes most of it."""
    rows: list[dict[str, object]] = []
    for language in LANGUAGES:
        for shown, sign in (("F", 1.0), ("M", -1.0), ("A", -0.2), ("F-M", 2.0)):
            parts = [(None, "embeddings", 0.1 * sign)]
            parts += [(layer, c, sign * (3.0 if (layer, c) == (3, "attention") else 0.2)) for layer in range(LAYERS) for c in ("attention", "mlp")]
            total = sum(value for _, _, value in parts)
            rows += [
                {"layer": layer, "component": component, "language": language, "visual_gender": shown, "contribution": value, "low": value - 0.1}
                | {"high": value + 0.1, "total": total, "sum_error": 4e-6, "n_images": 32, "n_clusters": 20}
                for layer, component, value in parts
            ]
    return rows


def _patching() -> list[dict[str, object]]:
    """Image tokens carry all of it up to layer 2, the deciding token from layer 4 on."""
    places: list[tuple[str, int | None, str, str, float]] = [("projector", None, "output", "image", 10.0)]
    places += [("vision tower", layer, site, "image", 2.0 + layer) for layer in range(3) for site in ("attention", "mlp")]
    for layer in range(LAYERS):
        carried = {"image": 10.0 * (layer < 3), "prompt": 0.0, "decision": 10.0 * (layer > 3)}
        for site, share in (("resid_post", 1.0), ("attn_out", 0.3), ("mlp_out", 0.1)):
            places += [("decoder", layer, site, kind, share * effect) for kind, effect in carried.items()]
    ahead = {layer: 10.0 * (layer > 3) - 10.0 * (layer < 3) for layer in range(LAYERS)}
    over = {layer: {"over_image": x, "over_image_low": x - 0.3, "over_image_high": x + 0.3} for layer, x in ahead.items()}
    nothing = {"over_image": None, "over_image_low": None, "over_image_high": None}
    return [
        {"part": part, "layer": layer, "site": site, "token_kind": kind, "language": language, "effect": effect, "low": effect - 0.2, "high": effect + 0.2}
        | {"direction": direction, "total": 10.0, "n_images": 32, "n_clusters": 20}
        | (over[layer] if kind == "decision" and layer is not None else nothing)
        for language in LANGUAGES
        for direction in ("woman into man", "man into woman")
        for part, layer, site, kind, effect in places
    ]
