"""The tools on latents, run on the small demonstration: every table is filled, the groups cover the dictionaries, permuted labels find nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Ask

pytestmark = pytest.mark.slow

TABLES = (
    *("caption_words", "language_profiles", "latent_profiles", "latent_languages", "language_matches", "language_contrast", "language_verdicts"),
    *("latent_pairs", "latent_nodes", "causal_pairs", "grammar_tests", "latent_grammar"),
)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_the_tools_on_latents_has_rows_of_the_run(table: str, skewed_run: Path, ask: Ask) -> None:
    assert ask(skewed_run, f"select count(*) as n from {table} join latest_runs using (run_id)")[0]["n"] > 0


@pytest.mark.parametrize("check", ["latents_without_reason", "latent_groups_do_not_cover"])
def test_what_is_missing_has_a_reason_and_groups_cover_the_dictionaries(check: str, skewed_run: Path, ask: Ask) -> None:
    text = (Path(__file__).resolve().parents[2] / "sql" / "checks" / f"{check}.sql").read_text(encoding="utf-8")
    assert ask(skewed_run, text.rstrip().rstrip(";")) == []


def test_latents_follow_the_gender_shown_and_none_follows_permuted_labels(skewed_run: Path, ask: Ask) -> None:
    rows = ask(skewed_run, "select n_female + n_male as gendered, n_gendered_permuted as permuted from language_profile")
    assert sum(row["gendered"] for row in rows) > 10 * (1 + sum(row["permuted"] for row in rows))


def test_some_latents_follow_the_stereotype_where_no_gender_is_shown_and_none_with_contexts_exchanged(skewed_run: Path, ask: Ask) -> None:
    rows = ask(skewed_run, "select n_stereotype_female + n_stereotype_male as following, n_stereotype_permuted as permuted from language_profile")
    assert sum(row["following"] for row in rows) > sum(row["permuted"] for row in rows)


def test_pairs_are_of_latents_chosen_elsewhere_and_the_fourth_rung_comes_from_steering(skewed_run: Path, ask: Ask) -> None:
    assert {row["split"] for row in ask(skewed_run, "select split from latent_pairs union select split from causal_pairs")} == {"report"}
    assert {row["rung"] for row in ask(skewed_run, "select distinct rung from claim_ladder")} == {"L1", "L2", "L3", "L4"}
