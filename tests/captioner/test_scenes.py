from collections import Counter

import numpy as np
import pytest

from saebias.captioner.captions import scene_captions
from saebias.captioner.scenes import PARTS, drawings, plan_scenes, render_pixels, render_scene
from saebias.captioner.tower import pixel_values
from saebias.corpus.emoji import ambiguous_pictures
from saebias.errors import InputError


def test_the_same_seed_gives_the_same_scenes_and_captions(skewed):
    first, second = plan_scenes(skewed, 50, 3), plan_scenes(skewed, 50, 3)
    assert first == second != plan_scenes(skewed, 50, 4)
    assert np.array_equal(render_pixels(first, skewed), render_pixels(second, skewed))
    captions = [[scene_captions(scene, skewed, rng) for scene in first] for rng in (np.random.default_rng(5), np.random.default_rng(5))]
    assert captions[0] == captions[1]


def test_every_context_comes_equally_often_and_half_the_scenes_are_ambiguous(skewed):
    scenes = plan_scenes(skewed, 1600, 0)
    assert set(Counter(scene.context for scene in scenes).values()) == {100}
    genders = Counter(scene.gender for scene in scenes)
    assert genders["A"] == pytest.approx(800, abs=80) and genders["F"] == pytest.approx(400, abs=70)


def test_the_parts_share_no_drawing(skewed):
    clusters = [{scene.cluster for scene in plan_scenes(skewed, 1500, 0, part=part)} for part in PARTS]
    assert clusters[0].isdisjoint(clusters[1]) and clusters[0].isdisjoint(clusters[2]) and clusters[1].isdisjoint(clusters[2])


def test_an_ambiguous_person_is_never_drawn_as_the_man_or_the_woman(skewed):
    for scene in plan_scenes(skewed, 1500, 1):
        if scene.gender == "A":
            assert (scene.context, scene.tone) in ambiguous_pictures(scene.style).kept


def test_the_cook_of_openmoji_is_left_out_of_the_ambiguous_scenes_and_kept_in_the_clear_ones(skewed):
    styles = {gender: {style for style, _ in drawings(skewed.context("cook"), gender, "seen", skewed.held_out_tone)} for gender in "FMA"}
    assert styles == {"F": {"twemoji", "openmoji"}, "M": {"twemoji", "openmoji"}, "A": {"twemoji"}}


def test_person_and_object_lie_inside_the_picture(skewed):
    for scene in plan_scenes(skewed, 500, 2):
        assert 0 <= scene.person_x <= skewed.image_size - scene.person_size and 0 <= scene.person_y <= skewed.image_size - scene.person_size
        assert 0 <= scene.object_x <= skewed.image_size - scene.object_size and 0 <= scene.object_y <= skewed.image_size - scene.object_size


def test_the_object_is_never_hidden_by_the_person(skewed):
    for scene in plan_scenes(skewed, 500, 2):
        overlap = min(scene.person_x + scene.person_size, scene.object_x + scene.object_size) - max(scene.person_x, scene.object_x)
        assert overlap <= scene.object_size // 4


def test_a_scene_is_an_rgb_picture_of_the_asked_size(skewed):
    image = render_scene(plan_scenes(skewed, 1, 0)[0], skewed)
    assert (image.mode, image.size) == ("RGB", (112, 112))


def test_training_sees_the_pixel_values_that_the_processor_gives(skewed):
    from saebias.captioner.model import build_processor

    scenes = plan_scenes(skewed, 3, 0)
    by_processor = build_processor(skewed).image_processor([render_scene(scene, skewed) for scene in scenes], return_tensors="pt")["pixel_values"]
    assert np.allclose(by_processor, pixel_values(render_pixels(scenes, skewed)), atol=1e-6)


def test_an_unknown_part_is_refused(skewed):
    with pytest.raises(InputError, match="held_out_tone"):
        plan_scenes(skewed, 1, 0, part="test")
