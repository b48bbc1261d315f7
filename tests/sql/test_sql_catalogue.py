"""Views, named queries and checks: every one runs, and the planted answers come back."""

from __future__ import annotations

import re

import duckdb
import pytest
from planted_catalogue import PROFESSIONS, run_id
from sql_files import SqlFile, sql_files, used_parameters

QUERIES = {file.name: file for file in sql_files("queries")}
CHECKS = sql_files("checks")
VIEWS = [re.sub(r"^\d+_", "", file.name) for file in sql_files("views")]
EVERY_FILE = [*sql_files("views"), *QUERIES.values(), *CHECKS]


def ask(con: duckdb.DuckDBPyConnection, name: str, **params: str) -> list[dict[str, object]]:
    """The rows of a named query as dictionaries."""
    query = QUERIES[name]
    return con.sql(query.text, params=query.defaults | params).to_arrow_table().to_pylist()


def answer(con: duckdb.DuckDBPyConnection, text: str) -> object:
    """The one value that a statement answers with."""
    ((value,),) = con.sql(text).fetchall()
    return value


@pytest.mark.parametrize("file", EVERY_FILE, ids=lambda file: file.name)
def test_every_file_begins_with_its_help_and_declares_the_parameters_it_uses(file: SqlFile) -> None:
    assert file.text.startswith("-- ") and len(file.help) > 20
    assert set(file.defaults) == used_parameters(file.text)


def test_there_are_at_least_sixteen_named_queries() -> None:
    assert len(QUERIES) >= 16


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_runs_on_an_empty_and_on_a_planted_catalogue(view: str, empty: duckdb.DuckDBPyConnection, planted: duckdb.DuckDBPyConnection) -> None:
    if view != "metric_names":
        assert empty.sql(f"from {view}").to_arrow_table().num_rows == 0
    assert planted.sql(f"from {view}").to_arrow_table().num_rows > 0 or view == "stale_runs"


@pytest.mark.parametrize("view", VIEWS)
def test_views_have_a_comment_and_show_no_bare_latent_or_dictionary_ids(view: str, empty: duckdb.DuckDBPyConnection) -> None:
    comment, columns = empty.execute("select comment, sql from duckdb_views() where view_name = ?", [view]).fetchone() or ("", "")
    assert comment
    names = {column[0] for column in empty.execute(f"from {view}").description or []}
    assert "sae_id" not in names, columns
    assert "latent" not in names or "layer" in names


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_answers_on_an_empty_and_on_a_planted_catalogue(name: str, empty: duckdb.DuckDBPyConnection, planted: duckdb.DuckDBPyConnection) -> None:
    assert ask(empty, name) == []
    assert ask(planted, name)


@pytest.mark.parametrize("name", [name for name, query in QUERIES.items() if "language" in query.defaults])
def test_asking_for_one_language_gives_rows_of_that_language_alone(name: str, planted: duckdb.DuckDBPyConnection) -> None:
    assert {row["language"] for row in ask(planted, name, language="ar") if "language" in row} <= {"ar"}


@pytest.mark.parametrize("name", [name for name, query in QUERIES.items() if "top" in query.defaults])
def test_top_bounds_the_number_of_rows(name: str, planted: duckdb.DuckDBPyConnection) -> None:
    assert len(ask(planted, name, top="2")) <= 2


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_checks_find_nothing_on_a_healthy_catalogue(check: SqlFile, empty: duckdb.DuckDBPyConnection, planted: duckdb.DuckDBPyConnection) -> None:
    assert empty.execute(check.text).fetchall() == []
    assert planted.execute(check.text).fetchall() == []


DAMAGE = {
    "orphan_samples": "update exact_probabilities set sample_id = 'nobody' where sample_id = 's0001'",
    "samples_without_captions": "delete from captions where sample_id = 's0001'",
    "samples_without_image": "delete from images where image_id = 'i0001'",
    "cluster_in_two_splits": "update samples set split = 'report' where sample_id = 's0001'",
    "probability_out_of_range": "update exact_probabilities set p_female = 1.2 where sample_id = 's0001'",
    "metric_is_nan": "update behavior_metrics set value = 'nan'::double where metric = 'stereotype_spread'",
    "missing_without_reason": "update behavior_metrics set value = null where metric = 'stereotype_spread'",
    "interval_without_value": "update behavior_metrics set low = 2.0 where metric = 'stereotype_spread'",
    "reported_on_select": "delete from steering_effects where split = 'report' and arm = 'A8'",
    "truncated_feature_sets": "delete from feature_sets where rank = 8 and set_name = 'visible-en'",
    "missing_decision_rows": "update token_rows set decision = false where sample_id = 's0001' and language = 'ar'",
    "row_count_differs": "delete from token_rows where sample_id = 's0001' and position = 0",
    "activation_rows_twice": "update token_rows set prompt_id = 'lost' where sample_id = 's0001'",
    "extract_incomplete": "delete from extract_status where sample_id = 's0001' and language = 'ar'",
    "idle_intervention_differs": "update steering_effects set value = 0.5 where arm = 'A2' and metric = 'stereotype_spread'",
    "double_rows": "insert into behavior_metrics select * from behavior_metrics where metric = 'stereotype_spread'",
    "attribution_does_not_sum": "delete from logit_attribution where component = 'embeddings'",
    "latents_of_other_dictionaries": "update saes set role = 'seed' where layer = 5",
    "latents_without_reason": "update latent_pairs set p = null where latent_a = 0 and latent_b = 1",
    "latent_groups_do_not_cover": "delete from latent_profiles where latent = 3 and language = 'ar'",
    "unknown_parents": "update runs set parents = ['lost-000000000000'] where stage = 'extract'",
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_checks_find_the_damage_they_are_made_for(check: SqlFile, damaged: duckdb.DuckDBPyConnection) -> None:
    damaged.execute(DAMAGE[check.name])
    assert damaged.execute(check.text).fetchall()


def test_the_most_skewed_profession_is_the_planted_one(planted: duckdb.DuckDBPyConnection) -> None:
    farthest = max(PROFESSIONS, key=lambda p: max(abs(p[4] - 0.5), abs(p[5] - 0.5)))
    first = ask(planted, "skewed_professions", top="1")[0]
    assert first["profession"] == farthest[0]
    assert first["woman_ar"] == farthest[1]


def test_the_planted_shares_come_back_within_the_planted_error(planted: duckdb.DuckDBPyConnection) -> None:
    rows = ask(planted, "plant_recovery")
    assert len(rows) == 2 * len(PROFESSIONS)
    assert all(abs(float(str(row["error"]))) < 0.08 for row in rows)


@pytest.mark.parametrize("verbs", [None, {"F": "تقف", "M": "يقف", "N": "يقف"}])
def test_arabic_names_lose_the_word_that_follows_them_and_nothing_else(damaged: duckdb.DuckDBPyConnection, verbs: dict[str, str] | None) -> None:
    for gender, verb in (verbs or {}).items():
        damaged.execute("update continuations set text = replace(text, ' مع', ' ' || ?) where language = 'ar' and gender = ?", [verb, gender])
    if verbs:
        # Where a name alone already says the gender its continuation may stop there.
        damaged.execute("update continuations set text = replace(replace(text, ' تقف', ''), ' يقف', '') where language = 'ar' and context = 'astronaut'")
    names = {row[0]: row[1:] for row in damaged.execute("select profession, woman_ar, man_ar, neutral_ar from professions").fetchall()}
    assert names == {p[0]: p[1:4] for p in PROFESSIONS}


def test_views_show_the_newest_run_and_all_views_show_every_run(planted: duckdb.DuckDBPyConnection) -> None:
    assert answer(planted, "select count(*) from bias_summary where value = 9") == 0
    assert answer(planted, "select count(*) from profession_skew where p_female = 9") == 0
    assert answer(planted, "select count(*) from all_behavior where value = 9") == 40


def test_a_run_named_current_is_shown_although_a_newer_one_exists_and_what_was_made_otherwise_is_called_stale(
    damaged: duckdb.DuckDBPyConnection,
) -> None:
    damaged.execute("insert into current_runs values ('analyze', ?)", [run_id("analyze", "0")])
    assert answer(damaged, "select run_id from latest_runs where stage = 'analyze'") == run_id("analyze", "0")
    assert {row["stage"] for row in ask(damaged, "runs") if row["stale"]} == {"analyze", "steer", "mechanistic", "plot"}


def test_unfinished_runs_are_not_shown(planted: duckdb.DuckDBPyConnection) -> None:
    shown = {row["run_id"] for row in ask(planted, "runs") if row["shown"]}
    assert len(shown) == 8 and "steer-ffffffffffff" not in shown


def test_shared_latents_point_the_same_way_and_the_strongest_comes_first(planted: duckdb.DuckDBPyConnection) -> None:
    rows = ask(planted, "shared_latents", target="visible")
    assert (rows[0]["layer"], rows[0]["latent"]) == (5, 0)
    assert all((float(str(row["value_en"])) - 0.5) * (float(str(row["value_ar"])) - 0.5) > 0 for row in rows)


def test_the_random_band_is_that_of_the_random_sets(planted: duckdb.DuckDBPyConnection) -> None:
    one = "where metric = 'clear_harm' and target = 'visible' and language = 'ar'"
    band = answer(planted, f"select [low, high] from steering_curves {one} and arm = 'A6'")
    assert band == answer(planted, f"select quantile_cont(value, [0.025, 0.975]) from steering_random_sets {one}")


def test_what_was_matched_can_be_asked_apart_from_what_was_counted(planted: duckdb.DuckDBPyConnection) -> None:
    counted, rejected = ask(planted, "score_forms", counted="true"), ask(planted, "score_forms", counted="false")
    assert counted and rejected and len(counted) + len(rejected) == len(ask(planted, "score_forms"))


def test_a_missing_number_stays_missing(damaged: duckdb.DuckDBPyConnection) -> None:
    damaged.execute("update behavior_metrics set value = null, note = 'too few images' where context = 'cook' and metric = 'p_female'")
    cook = next(row for row in ask(damaged, "skewed_professions") if row["profession"] == "cook")
    assert cook["p_female_en"] is None and cook["p_female_ar"] is None


def test_a_latent_is_stable_when_every_other_seed_has_it_and_unknown_where_no_other_seed_was_trained(planted: duckdb.DuckDBPyConnection) -> None:
    flags = {(row["layer"], row["latent"]): row["stable"] for row in ask(planted, "top_latents", top="1000")}
    assert flags[5, 0] is True and flags[5, 1] is False
    assert {stable for (layer, _), stable in flags.items() if layer != 5} == {None}
    assert {row["stable"] for row in ask(planted, "chosen_latents")} == {True, False}
