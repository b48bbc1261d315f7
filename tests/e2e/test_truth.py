"""The pipeline's numbers against the planted truth, against the model asked directly, and against a few lines of numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from saebias.captioner.shipped import shipped_model
from saebias.captioner.spec import load_spec
from saebias.sae.formats import load_sae
from saebias.store.arrays import ActivationArray
from tests.conftest import Ask

pytestmark = pytest.mark.slow


def recovered(ask: Ask, artifacts: Path) -> dict[tuple[str, str], float]:
    rows = ask(
        artifacts,
        "select s.context, e.language, avg(e.p_female) as p from exact_probabilities e join current_runs using (run_id) join samples s using (sample_id) "
        "where s.visual_gender = 'A' and s.run_id in (select run_id from current_runs) group by all",
    )
    return {(row["context"], row["language"]): row["p"] for row in rows}


@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_planted_skew_is_recovered(ask: Ask, skewed_run: Path, language: str) -> None:
    spec = load_spec("skewed")
    found = recovered(ask, skewed_run)
    planted = np.array([context.p(language) for context in spec.contexts])
    p = np.array([found[context.name, language] for context in spec.contexts])
    assert np.sqrt(np.mean((p - planted) ** 2)) <= 0.07
    assert 0.85 <= np.polyfit(planted, p, 1)[0] <= 1.15


def test_the_table_of_the_report_says_the_same_as_the_rows(ask: Ask, skewed_run: Path) -> None:
    found = recovered(ask, skewed_run)
    rows = ask(skewed_run, "select context, language, value from behavior_metrics join current_runs using (run_id) where metric = 'p_female'")
    assert len(rows) == len(found)
    for row in rows:
        assert row["value"] == pytest.approx(found[row["context"], row["language"]], abs=1e-9)


def test_the_exact_probabilities_are_those_of_the_model_asked_directly(ask: Ask, skewed_run: Path) -> None:
    folder, spec = shipped_model("skewed"), load_spec("skewed")
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    rows = ask(
        skewed_run,
        "select s.image_path, s.context, e.language, e.p_female, c.text, c.gender from exact_probabilities e join samples s using (sample_id) "
        "join continuations c on c.context = s.context and c.language = e.language where s.visual_gender = 'A' "
        "qualify dense_rank() over (partition by e.language order by e.sample_id) <= 6 order by e.language, s.image_path, c.gender",
    )
    probability: dict[tuple[str, str], dict[str, float]] = {}
    said = {(row["image_path"], row["language"]): row["p_female"] for row in rows}
    for row in rows:
        prompt = f"<start_of_image>{spec.prompt(row['language'])}"
        picture = [[Image.open(row["image_path"]).convert("RGB")]]
        before = processor(text=[prompt], images=picture, return_tensors="pt")["input_ids"].shape[1]
        inputs = processor(text=[f"{prompt} {row['text']}"], images=picture, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0]
        total = sum(float(logits[place - 1, ids[place]]) for place in range(before, len(ids)))
        said_so_far = probability.setdefault((row["image_path"], row["language"]), {"F": 0.0, "M": 0.0, "N": 0.0})
        said_so_far[row["gender"]] += float(np.exp(total))
    assert len(probability) == 12
    for key, by_gender in probability.items():
        assert said[key] == pytest.approx(by_gender["F"] / (by_gender["F"] + by_gender["M"]), abs=1e-4)


@pytest.mark.parametrize("language", ["en", "ar"])
def test_on_the_sibling_without_a_skew_no_stereotype_and_no_default_are_reported(ask: Ask, null_run: Path, language: str) -> None:
    rows = ask(
        null_run,
        f"select metric, value, low, high from behavior_metrics where language = '{language}' and metric in ('stereotype_spread', 'masculine_default')",
    )
    found = {row["metric"]: row for row in rows}
    assert found["stereotype_spread"]["low"] == 0 and found["stereotype_spread"]["value"] < 0.07
    assert found["masculine_default"]["low"] <= 0 <= found["masculine_default"]["high"]


def test_the_skewed_model_shows_a_stereotype_in_both_languages_and_a_default_in_arabic_alone(ask: Ask, skewed_run: Path) -> None:
    rows = ask(skewed_run, "select * from behavior_metrics where metric in ('stereotype_spread', 'masculine_default') and context is null")
    found = {(row["metric"], row["language"]): row for row in rows}
    planted = {language: np.array([context.p(language) for context in load_spec("skewed").contexts]) for language in ("en", "ar")}
    for language in ("en", "ar"):
        spread = found["stereotype_spread", language]
        assert spread["low"] > 0.1 and spread["value"] == pytest.approx(planted[language].std(ddof=1), abs=0.03)
    assert found["masculine_default", "ar"]["low"] > 0
    assert found["masculine_default", "ar"]["value"] == pytest.approx(0.5 - planted["ar"].mean(), abs=0.03)
    assert found["masculine_default", "en"]["low"] <= 0 <= found["masculine_default", "en"]["high"]


def test_the_do_nothing_arm_changes_no_bit_and_reconstruction_with_error_equals_it(ask: Ask, skewed_run: Path) -> None:
    rows = ask(
        skewed_run, "select arm, language, split, metric, value from steering_effects where arm in ('A0', 'A2') and note is distinct from 'choice of layer'"
    )
    by_arm = {(row["arm"], row["language"], row["split"], row["metric"]): row["value"] for row in rows}
    compared = [key for key in by_arm if key[0] == "A0" and ("A2", *key[1:]) in by_arm]
    assert len(compared) >= 20
    for key in compared:
        assert by_arm[("A2", *key[1:])] == pytest.approx(by_arm[key], abs=2e-4), key
    captions = ask(
        skewed_run,
        "select arm, count(*) as n, sum((text <> baseline)::int) as changed from steered_captions where arm in ('A0', 'A2') group by arm order by arm",
    )
    assert [(row["arm"], row["changed"]) for row in captions] == [("A0", 0), ("A2", 0)] and all(row["n"] > 0 for row in captions)


def test_an_identity_hook_on_the_shipped_captioner_is_bit_identical() -> None:
    from saebias.captioner.scenes import plan_scenes, render_pixels
    from saebias.identifiers import HookPoint
    from saebias.vlm.forward import Edit, forward
    from saebias.vlm.inputs import build_inputs
    from saebias.vlm.loading import load_model

    spec = load_spec("skewed")
    loaded = load_model(str(shipped_model("skewed")))
    inputs = build_inputs(loaded, list(render_pixels(plan_scenes(spec, 4, 99), spec)), ["{image}" + spec.prompt("ar")] * 4)
    plain = forward(loaded, inputs)
    for layer in range(loaded.adapter.n_layers):
        hooked = forward(loaded, inputs, edit=Edit({HookPoint(layer): lambda x, context: x}, where="text"))
        assert torch.equal(plain, hooked)


def test_no_image_group_or_context_that_chose_latents_is_reported_on(ask: Ask, skewed_run: Path) -> None:
    rows = ask(skewed_run, "select concept, cluster_id, split from samples")
    for key in ("concept", "cluster_id"):
        groups = {split: {row[key] for row in rows if row["split"] == split} for split in ("select", "report")}
        assert groups["select"] and groups["report"] and not groups["select"] & groups["report"]


def test_auroc_and_fvu_of_the_catalogue_are_those_of_ten_lines_of_numpy(ask: Ask, skewed_run: Path) -> None:
    best = ask(skewed_run, "select * from feature_scores where target = 'visible' and selected order by abs(value_report - .5) desc limit 1")[0]
    run = skewed_run / "extract" / ask(skewed_run, "select fingerprint from runs where stage = 'extract'")[0]["fingerprint"]
    array = ActivationArray(run / "files" / "activations.zarr")
    hook = next(hook for hook in array.hooks if hook.layer == best["layer"])
    rows = ask(
        skewed_run,
        f"select t.row, s.visual_gender from token_rows t join samples s using (sample_id) where t.decision and t.language = '{best['language']}' "
        "and s.split = 'report' and s.visual_gender <> 'A' order by t.row",
    )
    x = array.read(hook)[[row["row"] for row in rows]].astype(np.float64)
    saved = ask(skewed_run, f"select path from saes where sae_id = '{best['sae_id']}'")[0]["path"]
    train = skewed_run / "train" / ask(skewed_run, "select fingerprint from runs where stage = 'train'")[0]["fingerprint"]
    sae, _ = load_sae(train / saved)
    w_enc, b_enc, w_dec, b_dec = (part.detach().double().numpy() for part in (sae.W_enc_DF, sae.b_enc_F, sae.W_dec_FD, sae.b_dec_D))
    pre = np.maximum((x - b_dec) @ w_enc + b_enc, 0)
    codes = np.where(pre >= np.sort(pre, axis=1)[:, [-sae.spec.k]], pre, 0)
    woman = np.array([row["visual_gender"] == "F" for row in rows])
    a, b = codes[woman, best["latent"]][:, None], codes[~woman, best["latent"]][None]
    assert best["value_report"] == pytest.approx(((a > b) + 0.5 * (a == b)).mean(), abs=2e-3)
    quality = ask(
        skewed_run,
        f"select fvu, n_rows from sae_quality where sae_id = '{best['sae_id']}' "
        f"and token_kind = 'decision' and language = '{best['language']}' and split = 'report'",
    )[0]
    everyone = ask(skewed_run, f"select row from token_rows where decision and language = '{best['language']}' and split = 'report' order by row")
    assert quality["n_rows"] == len(everyone), "the quick run is small enough for all rows to be measured"
    x = array.read(hook)[[row["row"] for row in everyone]].astype(np.float64)
    pre = np.maximum((x - b_dec) @ w_enc + b_enc, 0)
    codes = np.where(pre >= np.sort(pre, axis=1)[:, [-sae.spec.k]], pre, 0)
    error = ((x - codes @ w_dec - b_dec) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert quality["fvu"] == pytest.approx(error, rel=1e-3)


def test_the_stored_activations_are_the_hidden_states_of_the_model_run_directly(ask: Ask, skewed_run: Path) -> None:
    folder, spec = shipped_model("skewed"), load_spec("skewed")
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    run = skewed_run / "extract" / ask(skewed_run, "select fingerprint from runs where stage = 'extract'")[0]["fingerprint"]
    array = ActivationArray(run / "files" / "activations.zarr")
    samples = ask(skewed_run, "select sample_id, image_path, caption_en, caption_ar from samples order by hash(sample_id) limit 3")
    compared = 0
    for sample in samples:
        for language in ("en", "ar"):
            text = f"<start_of_image>{spec.prompt(language)} {sample[f'caption_{language}']}"
            inputs = processor(text=[text], images=[[Image.open(sample["image_path"]).convert("RGB")]], return_tensors="pt")
            with torch.no_grad():
                hidden = model(**inputs, output_hidden_states=True).hidden_states
            index = ask(
                skewed_run,
                f"select row, position, token_id from token_rows where sample_id = '{sample['sample_id']}' and language = '{language}' order by row",
            )
            kept = index[: inputs["input_ids"].shape[1]]
            assert [row["token_id"] for row in kept] == inputs["input_ids"][0].tolist()
            for hook in array.hooks[:-1]:
                stored = array.read_rows(hook, np.array([row["row"] for row in kept]))
                direct = hidden[hook.layer + 1][0].numpy()
                assert np.abs(stored - direct).max() <= 2**-7 * np.abs(direct).max()
                compared += 1
    assert compared == 3 * 2 * (len(array.hooks) - 1)


def test_the_lens_of_the_last_layer_is_the_model(ask: Ask, skewed_run: Path) -> None:
    last = ask(skewed_run, "select max(layer) as layer from lens")[0]["layer"]
    rows = ask(skewed_run, f"select * from lens where layer = {last}")
    assert rows and all(abs(row["kl_to_final"]) < 1e-6 for row in rows)
    lens = {row["language"]: row["gap"] for row in rows if row["visual_gender"] == "A"}
    # The closed set is scored over whole phrases, the lens over the deciding token: with one deciding token they are the same number.
    gaps = ask(
        skewed_run, "select e.language, avg(e.gap) as gap from exact_probabilities e join samples s using (sample_id) where s.visual_gender = 'A' group by 1"
    )
    for row in gaps:
        assert lens[row["language"]] == pytest.approx(row["gap"], abs=0.05)


def test_the_checks_of_the_catalogue_find_nothing(skewed_run: Path) -> None:
    from tests.conftest import saebias

    done = saebias("query", "--check", "--set", f"runtime.artifacts={skewed_run}", folder=skewed_run, check=False)
    assert done.returncode == 0, done.stdout


def test_a_picture_never_answers_for_another_where_captions_lack_one_language() -> None:
    from saebias.captioner.scenes import plan_scenes, render_pixels
    from saebias.errors import InputError
    from saebias.vlm.forward import image_prefix
    from saebias.vlm.images import encode_images
    from saebias.vlm.inputs import build_inputs
    from saebias.vlm.loading import load_model

    spec = load_spec("skewed")
    loaded = load_model(str(shipped_model("skewed")))
    features = encode_images(loaded, list(render_pixels(plan_scenes(spec, 4, 99), spec)))
    prompt = ["{image}" + spec.prompt("en")] * 2
    prefix = image_prefix(loaded, build_inputs(loaded, features.take([0, 1]), prompt))
    with pytest.raises(InputError, match="another picture"):
        prefix.take([0, 1], build_inputs(loaded, features.take([2, 3]), prompt))
