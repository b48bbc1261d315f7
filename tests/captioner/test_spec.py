import numpy as np
import pytest
import yaml

from saebias.captioner.spec import feminine, load_spec
from saebias.corpus.emoji import concept_by_key
from saebias.errors import ConfigError


def planted(spec, language):
    return np.array([context.p(language) for context in spec.contexts])


def test_english_is_balanced_and_arabic_has_a_masculine_default(skewed):
    assert planted(skewed, "en").mean() == pytest.approx(0.5, abs=0.01)
    assert planted(skewed, "ar").mean() < 0.4
    assert 0.15 < planted(skewed, "ar").std() < 0.25 and 0.15 < planted(skewed, "en").std() < 0.25


def test_the_two_languages_order_the_contexts_differently(skewed):
    ranks = [np.argsort(np.argsort(planted(skewed, language))) for language in ("en", "ar")]
    assert abs(np.corrcoef(*ranks)[0, 1]) < 0.5


def test_the_null_sibling_differs_in_nothing_but_the_plant(skewed, null):
    assert all(planted(null, language).tolist() == [0.5] * len(null.contexts) for language in ("en", "ar"))
    assert (skewed.objects, skewed.model, skewed.training, skewed.prompts) == (null.objects, null.model, null.training, null.prompts)
    assert skewed.digest() != null.digest()


def test_data_and_weights_never_share_a_seed(skewed, tmp_path):
    assert skewed.training.data_seed != skewed.training.init_seed
    values = full_values("skewed")
    values["training"]["init_seed"] = values["training"]["data_seed"]
    with pytest.raises(ConfigError, match="must not share a seed"):
        load_spec(written(values, tmp_path))


def test_arabic_nouns_are_the_cldr_names_unless_curated_with_a_reason(skewed):
    rows = full_values("skewed")["contexts"]
    for context in skewed.contexts:
        names = concept_by_key(context.name).ar
        same = (context.ar_M, context.ar_F) == (names.M, names.F)
        assert same != ("curated" in rows[context.name]), context.name


def test_the_feminine_ending_goes_on_the_first_word():
    assert feminine("عامل بناء") == "عاملة بناء"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.pop("objects"), "objects"),
        (lambda v: v.update(held_out_tone="green"), "green"),
        (lambda v: v["planted"].pop("cook"), "cook"),
        (lambda v: v["planted"]["cook"].update(ar=1.5), "planted.cook.ar is 1.5"),
        (lambda v: v["model"].update(width=3), "width"),
        (lambda v: v["contexts"]["cook"].update(styles=["noto"]), "noto"),
        (lambda v: v.update(name=2024), "name is 2024, which is no text; write .* in quotes"),
        (lambda v: v["contexts"]["cook"].update(ar=False), "contexts.cook.ar is False, which is no text"),
        (lambda v: v["contexts"].update({False: v["contexts"]["cook"]}), "a key is False, which is no text"),
        (lambda v: v["objects"].update(rose=12), "objects.rose is 12, which"),
        (lambda v: v["prompts"].update(en=1.5), "prompts.en is 1.5, which"),
        (lambda v: v.update(extends=7), "extends is 7, which"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change, said, tmp_path):
    values = full_values("skewed")
    change(values)
    with pytest.raises(ConfigError, match=said):
        load_spec(written(values, tmp_path))


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"[1]"])
def test_a_file_that_is_no_spec_is_one_line(content, tmp_path):
    (tmp_path / "spec.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"spec\.yaml") as caught:
        load_spec(tmp_path / "spec.yaml")
    assert "\n" not in str(caught.value)


def test_an_unknown_spec_names_the_known_ones():
    with pytest.raises(ConfigError, match="null, skewed"):
        load_spec("skewd")


def full_values(name):
    from importlib.resources import files

    folder = files("saebias.captioner") / "specs"
    values = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return yaml.safe_load((folder / values.pop("extends")).read_text(encoding="utf-8")) | values


def written(values, folder):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return path
