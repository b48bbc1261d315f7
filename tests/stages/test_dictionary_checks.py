"""Laws of what says how far a dictionary can be trusted: stability, cross-entropy recovered, permuted labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saebias.identifiers import HookPoint
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.stages.analyze_features import DecisionPart
from saebias.stages.dictionaries import Dictionary
from saebias.stages.dictionary_checks import _match
from saebias.stages.dictionary_loss import recovered
from saebias.stages.latent_controls import permuted_labels
from saebias.stages.token_index import token_index, unseen_rows
from saebias.stages.train import activations_path
from saebias.store.arrays import ActivationArray

from .planted_activations import planted_values, train_context, write_extract

HOOK = HookPoint(3)


def dictionary(name: str, decoder_FD: torch.Tensor, role: str) -> Dictionary:
    sae = SparseAutoencoder(SaeSpec(decoder_FD.shape[1], len(decoder_FD), 4))
    with torch.no_grad():
        sae.W_dec_FD.copy_(decoder_FD)
        sae.W_enc_DF.copy_(decoder_FD.T)
    return Dictionary(f"train-000000000000/{name}", HOOK, sae.requires_grad_(False), role)


def random_rows(n: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 32, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_permuted_copy_is_found_again_latent_by_latent_and_an_unrelated_dictionary_is_not(tmp_path: Path):
    ctx = train_context(tmp_path, tmp_path)
    decoder_FD, order = random_rows(64, 1), torch.randperm(64, generator=torch.Generator().manual_seed(2))
    codes_NF = (torch.rand(800, 64, generator=torch.Generator().manual_seed(3)) < 0.05).float()
    x_ND = codes_NF @ decoder_FD
    main, twin = dictionary("main", decoder_FD, "main"), dictionary("twin", decoder_FD[order], "seed")
    pair, matches = _match(ctx, main, twin, x_ND)
    assert pair["n_stable"] == pair["n_live"] == 64
    assert {match["latent"]: match["other_latent"] for match in matches} == dict(zip(order.tolist(), range(64), strict=True))
    null, _ = _match(ctx, main, dictionary("other", random_rows(64, 4), "control"), x_ND)
    assert null["stable_share"] < 0.05
    assert null["mean_cosine"] < null["null_cosine_high"] + 0.1


def test_prompt_tokens_that_hold_the_same_vector_in_every_image_were_seen_in_training_whichever_image_they_are_of(tmp_path: Path):
    values_NLD = planted_values(16 * 30)
    position = np.arange(len(values_NLD)) % 16
    values_NLD[position == 8] = values_NLD[8]
    values_NLD[position == 2] = values_NLD[2]
    ctx = train_context(write_extract(tmp_path, values_NLD), tmp_path)
    index = token_index(ctx)
    kept = unseen_rows(ActivationArray(activations_path(ctx)), index)
    assert set(kept.split) == {"select"}
    # Position 8 is of the prompt; equal vectors of a picture are no reason to leave it out.
    assert set(kept.position.tolist()) == set(range(16)) - {8}
    assert len(kept) == 15 * len(set(index.sample_id[index.split == "select"]))


def test_cross_entropy_recovered_is_one_for_a_perfect_dictionary_zero_for_the_ablation_itself_and_not_clipped():
    assert recovered(1.0, 1.0, 3.0, 5.0)["recovered_mean"] == 1.0
    assert recovered(1.0, 3.0, 3.0, 5.0)["recovered_mean"] == 0.0
    assert recovered(1.0, 3.0, 3.0, 5.0)["recovered_zero"] == 0.5
    assert recovered(1.0, 0.8, 3.0, 5.0)["recovered_mean"] == pytest.approx(1.1)
    assert recovered(1.0, 3.5, 3.0, 5.0)["recovered_mean"] == pytest.approx(-0.25)


def test_where_an_ablation_costs_nothing_there_is_no_share_but_a_reason():
    row = recovered(1.0, 1.1, 1.001, 3.0)
    assert row["recovered_mean"] is None
    assert row["recovered_zero"] == pytest.approx(0.95)
    assert row["note"] == "recovered_mean: the ablation costs less than 0.01 nats a token"


def test_permuted_labels_keep_one_label_per_picture_group_and_as_many_women():
    samples = [{"cluster_id": f"c{i // 3}", "context": None, "visual_gender": "F" if i // 3 % 3 == 0 else "M"} for i in range(90)]
    part = DecisionPart(np.arange(90), samples)
    drawn = [permuted_labels(part, seed) for seed in range(20)]
    for is_woman in drawn:
        assert is_woman.sum() == part.is_woman.sum()
        assert all(len(set(is_woman[part.clusters == cluster])) == 1 for cluster in set(part.clusters))
    agreement = np.mean([(is_woman == part.is_woman).mean() for is_woman in drawn])
    # Independent labels with a third of women agree on (1/3)^2 + (2/3)^2 of the rows.
    assert abs(agreement - 5 / 9) < 0.1
