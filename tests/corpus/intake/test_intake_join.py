"""Rows meet their pictures: an image is its bytes, a cluster is whatever belongs together, a bad picture costs its row."""

from __future__ import annotations

import random

import pytest

from saebias.corpus.images import check_images
from saebias.corpus.intake import join_pictures
from saebias.corpus.near_duplicates import near_duplicate_clusters
from saebias.corpus.splits import assign_splits, check_splits
from saebias.corpus.tables import read_table
from saebias.errors import InputError


@pytest.fixture
def corpus_of(table, picture, tmp_path):
    """`corpus_of(rows)` writes a picture per row (seeded by its name, unless it is there) and joins."""

    def join(rows, near_duplicates=False):
        for row in rows:
            path = tmp_path / str(row["image"])
            if not path.exists() and "gone" not in path.name:
                picture(path, seed=int(path.stem))
        read = read_table(table(rows))
        checks = check_images([row.image for row in read.rows], content_hash=True)
        return join_pictures(read.rows, checks, near_duplicate_clusters(checks) if near_duplicates else None)

    return join


def test_records_refer_to_each_other(corpus_of, good_row):
    corpus = corpus_of([good_row(index, caption_en='["a cook", "a chef"]') for index in range(4)])
    assert len(corpus.images) == len(corpus.samples) == 4
    assert {caption.image_id for caption in corpus.captions} == {image.image_id for image in corpus.images} == {sample.image_id for sample in corpus.samples}
    assert len({caption.caption_id for caption in corpus.captions}) == len(corpus.captions) == 12
    assert [caption.caption_index for caption in corpus.captions[:3]] == [0, 1, 0]
    assert all(image.content_hash.startswith(image.image_id) and len(image.image_id) == 16 for image in corpus.images)
    assert all(sample.cluster_id == sample.image_id for sample in corpus.samples)
    assert (corpus.samples[0].caption_en, corpus.samples[0].caption_ar) == ("a cook", "طباخة مع كرات")


def test_the_same_bytes_under_two_names_are_one_image(corpus_of, picture, tmp_path, good_row):
    picture(tmp_path / "pictures/1.png", seed=0)
    corpus = corpus_of([good_row(0), good_row(1), good_row(2)])
    assert len(corpus.images) == 2
    assert corpus.images[0].path.endswith("/0.png")
    assert [sample.image_id for sample in corpus.samples[:2]] == [corpus.images[0].image_id] * 2


def test_a_missing_or_corrupt_picture_costs_its_row_alone(corpus_of, tmp_path, good_row):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/1.png").write_bytes(b"no picture at all")
    corpus = corpus_of([good_row(0), good_row(1), good_row(2, image="gone.png"), good_row(3)])
    assert [sample.sample_id for sample in corpus.samples] == ["s0", "s3"]
    assert [(item.row_number, item.sample_id, item.column) for item in corpus.problems] == [(2, "s1", "image"), (3, "s2", "image")]
    assert "not a picture" in corpus.problems[0].reason
    assert corpus.problems[1].reason == "no such file"


def test_one_picture_with_two_visual_genders_is_set_aside(corpus_of, good_row):
    rows = [good_row(0), good_row(1, image="pictures/0.png", visual_gender="M"), good_row(2, image="pictures/0.png", visual_gender=""), good_row(3)]
    corpus = corpus_of(rows)
    assert [sample.sample_id for sample in corpus.samples] == ["s2", "s3"]
    assert {item.reason for item in corpus.problems} == {"the same picture is F in row 1 and M in row 2"}


def test_clusters_of_the_table_are_kept_and_joined_by_a_shared_image(corpus_of, good_row):
    rows = [good_row(0, cluster="a"), good_row(1, cluster="b"), good_row(2, image="pictures/0.png", cluster="c"), good_row(3, cluster="c"), good_row(4)]
    rows = [{"cluster": None, **row} for row in rows]
    samples = corpus_of(rows).samples
    assert [sample.cluster_id for sample in samples[:4]] == ["a", "b", "a", "a"]
    assert samples[4].cluster_id == samples[4].image_id


def test_near_duplicates_come_into_one_cluster(corpus_of, picture, tmp_path, good_row):
    picture(tmp_path / "pictures/1.png", seed=0, size=(192, 128))
    samples = corpus_of([good_row(0), good_row(1), good_row(2)], near_duplicates=True).samples
    assert samples[0].image_id != samples[1].image_id
    assert samples[0].cluster_id == samples[1].cluster_id != samples[2].cluster_id


def test_the_order_of_rows_changes_no_record(corpus_of, good_row):
    rows = [good_row(index, image=f"pictures/{index % 7}.png", cluster=f"k{index % 3}" if index % 2 else "") for index in range(20)]
    one, other = corpus_of(rows, near_duplicates=True), corpus_of(random.Random(3).sample(rows, len(rows)), near_duplicates=True)
    for records in ("images", "captions", "samples"):
        assert set(getattr(one, records)) == set(getattr(other, records))


def test_a_corpus_splits_without_a_leak(corpus_of, good_row):
    rows = [good_row(index, image=f"pictures/{index % 40}.png", concept=f"c{index % 5}") for index in range(120)]
    check_splits(assign_splits(corpus_of(rows).samples, seed=0))


def test_a_picture_that_was_not_checked_is_refused(table, picture, tmp_path, good_row):
    path = picture(tmp_path / "pictures/0.png")
    rows = read_table(table([good_row(0)])).rows
    for checks in ([], check_images([path])):
        with pytest.raises(InputError, match="has no check with a content hash"):
            join_pictures(rows, checks)
