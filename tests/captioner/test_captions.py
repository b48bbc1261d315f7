from collections import Counter

import numpy as np
import pytest

from saebias.captioner.captions import caption_text, caption_variants, continuations, scene_captions, with_article
from saebias.captioner.scenes import plan_scenes
from saebias.captioner.tokenizer import FEMININE_ENDING, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(skewed):
    return build_tokenizer(skewed)


def test_captions_name_person_and_object_and_the_arabic_verb_agrees(skewed):
    cook = skewed.context("cook")
    assert caption_text(cook, "F", "guitar", "en", skewed) == "a woman cook beside a guitar"
    assert caption_text(cook, "N", "umbrella", "en", skewed) == "a cook beside an umbrella"
    assert caption_text(cook, "F", "guitar", "ar", skewed) == "طباخة تقف بجانب غيتار"
    assert caption_text(cook, "M", "guitar", "ar", skewed) == "طباخ يقف بجانب غيتار"


def test_articles_follow_the_sound():
    assert [with_article(noun) for noun in ("artist", "umbrella", "office worker", "cook")] == ["an artist", "an umbrella", "an office worker", "a cook"]


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("gender", ["F", "M", "A"])
def test_the_planted_shares_of_every_scene_sum_to_one(skewed, language, gender):
    for context in skewed.contexts:
        variants = caption_variants(context, gender, "dog", language, skewed)
        assert sum(variant.probability for variant in variants) == pytest.approx(1)


def test_drawn_captions_recover_the_plant(skewed):
    scenes = [scene for scene in plan_scenes(skewed, 2, 0, ambiguous_share=1.0) for _ in range(1500)]
    rng = np.random.default_rng(1)
    context = skewed.context(scenes[0].context)
    texts = Counter(scene_captions(scene, skewed, rng)["ar"].split(" ")[0] for scene in scenes if scene.context == context.name)
    assert texts[context.ar_F.split(" ")[0]] / texts.total() == pytest.approx(context.p_ar, abs=0.05)


def test_clear_pictures_lie_at_the_planted_rate(skewed):
    variants = {v.gender: v.probability for v in caption_variants(skewed.context("cook"), "F", "dog", "en", skewed)}
    assert variants == {"F": 1 - skewed.error_rate, "M": skewed.error_rate}


def test_f_and_m_continuations_part_at_the_decision_position_and_neither_begins_the_other(skewed, tokenizer):
    rows = [(c.context, c.language, c.gender, tokenizer.encode(" " + c.text, add_special_tokens=False)) for c in continuations(skewed)]
    for context in skewed.contexts:
        for language in ("en", "ar"):
            feminine, masculine = ([ids for *key, ids in rows if key == [context.name, language, gender]] for gender in ("F", "M"))
            assert feminine and len({tuple(ids[:1]) for ids in feminine + masculine}) == 1
            assert not {ids[1] for ids in feminine} & {ids[1] for ids in masculine}


def test_every_caption_begins_with_just_one_continuation_of_its_context(skewed, tokenizer):
    closed = {(c.context, c.language, c.gender, c.text): tokenizer.encode(" " + c.text, add_special_tokens=False) for c in continuations(skewed)}
    for name, language, gender in {key[:3] for key in closed}:
        ids = tokenizer.encode(" " + caption_text(skewed.context(name), gender, "dog", language, skewed), add_special_tokens=False)
        fitting = [key[2] for key, start in closed.items() if key[:2] == (name, language) and ids[: len(start)] == start]
        assert fitting == [gender]


def test_the_feminine_ending_is_a_token_of_its_own_on_people_and_part_of_the_word_on_things(skewed, tokenizer):
    ending = f"##{FEMININE_ENDING}"
    for context in skewed.contexts:
        feminine, masculine = tokenizer.tokenize(" " + context.ar_F), tokenizer.tokenize(" " + context.ar_M)
        assert feminine.count(ending) == 1 and feminine[1] == ending
        assert [token for token in feminine if token != ending] == masculine
    assert tokenizer.tokenize(" دراجة") == ["▁دراجة"]


@pytest.mark.parametrize(
    "text",
    ["English caption: a woman cook beside a guitar", " وصف عربي: طباخة تقف بجانب دراجة", "a nurse, unseen  before; 3 words\n\nx ##a \n", "مُمَرِّضة؟ نعم، ١٢"],
)
def test_decode_of_encode_is_the_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_every_caption_of_the_spec_round_trips_without_unknown_or_single_character_tokens(skewed, tokenizer):
    for context in skewed.contexts:
        for language, genders in (("en", "FMN"), ("ar", "FM")):
            for gender in genders:
                text = " " + caption_text(context, gender, "rocket", language, skewed)
                ids = tokenizer.encode(text, add_special_tokens=False)
                assert tokenizer.decode(ids) == text
                assert len(ids) == len(text.split()) + (language == "ar" and gender == "F")
