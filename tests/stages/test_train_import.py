"""Laws of imported dictionaries: each is the one of its hook point, judged on this run's rows, and a folder that does not fit is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from saebias.errors import InputError
from saebias.sae.formats import load_sae
from saebias.sae.formats_export import save_dictionary_learning, save_saelens, save_sparsify
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.stages.train import TRAIN, run_train

from .planted_activations import planted_values, train_context, write_extract

HOOK = "L03.resid_post"


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extract(tmp_path_factory.mktemp("extract"), planted_values(4 * 1024))


@pytest.fixture(scope="module")
def trained(extract: Path, tmp_path_factory: pytest.TempPathFactory) -> SparseAutoencoder:
    folder = tmp_path_factory.mktemp("trained")
    run_train(train_context(extract, folder))
    return load_sae(folder / "files" / f"{HOOK}.seed7")[0]


def imports(folder: Path, hook: str = HOOK) -> str:
    return f"train.imports={json.dumps([{'hook': hook, 'folder': str(folder)}])}"


def saes(folder: Path) -> dict[str, dict]:
    return {row["sae_id"].rpartition("/")[2]: row for path in sorted(folder.glob("rows/saes/*.parquet")) for row in pq.read_table(path).to_pylist()}


def test_an_imported_dictionary_is_the_main_one_of_its_hook_point_with_equal_numbers(extract: Path, trained: SparseAutoencoder, tmp_path: Path) -> None:
    save_saelens(tmp_path / "saelens", trained, {})
    context = train_context(extract, tmp_path / "run", imports(tmp_path / "saelens"))
    assert TRAIN.inputs(context.cfg) == [tmp_path / "saelens"]
    run_train(context)
    rows = saes(tmp_path / "run")
    main = [name for name, row in rows.items() if row["role"] == "main"]
    assert sorted(main) == ["L00.resid_post.seed7", f"{HOOK}.imported"]
    row = rows[f"{HOOK}.imported"]
    assert row["imported_from"] == f"SAELens: {tmp_path / 'saelens'}"
    assert row["seed"] is None and row["learning_rate"] is None
    sae, meta = load_sae(tmp_path / "run" / row["path"])
    assert meta["sae_id"] == row["sae_id"] and meta["hook"] == HOOK
    x_ND = torch.from_numpy(planted_values(200)[:, 1])
    torch.testing.assert_close(sae(x_ND), trained(x_ND))


def test_every_format_gives_the_quality_that_the_trained_dictionary_had(extract: Path, trained: SparseAutoencoder, tmp_path: Path) -> None:
    save_sparsify(tmp_path / "sparsify", trained)
    save_dictionary_learning(tmp_path / "dl", trained, {})
    found = []
    for name in ("sparsify", "dl"):
        run_train(train_context(extract, tmp_path / f"run-{name}", imports(tmp_path / name)))
        found.append(saes(tmp_path / f"run-{name}")[f"{HOOK}.imported"]["fvu"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert 0 < found[0] < 0.5


def test_a_second_run_imports_nothing_again(extract: Path, trained: SparseAutoencoder, tmp_path: Path) -> None:
    save_saelens(tmp_path / "saelens", trained, {})
    for _ in range(2):
        context = train_context(extract, tmp_path / "run", imports(tmp_path / "saelens"))
        run_train(context)
    assert context.pending([f"{HOOK}.imported"]) == []


def refused(extract: Path, folder: Path, out: Path, *more: str, hook: str = HOOK) -> str:
    with pytest.raises(InputError) as caught:
        run_train(train_context(extract, out, imports(folder, hook), *more))
    message = str(caught.value)
    assert "\n" not in message
    assert not saes(out)
    return message


def test_what_does_not_fit_is_said_before_anything_is_trained(extract: Path, trained: SparseAutoencoder, tmp_path: Path) -> None:
    save_saelens(tmp_path / "wide", SparseAutoencoder(SaeSpec(24, 64, 4)), {})
    assert "width 24, the activations at L03.resid_post have 16" in refused(extract, tmp_path / "wide", tmp_path / "run")
    save_saelens(tmp_path / "good", trained, {})
    assert "activations of L02.resid_post were not kept; choose one of L00.resid_post, L03.resid_post" in refused(
        extract, tmp_path / "good", tmp_path / "run", hook="L02.resid_post"
    )
    assert "is not a hook point" in refused(extract, tmp_path / "good", tmp_path / "run", hook="layer3")
    save_saelens(tmp_path / "random", SparseAutoencoder(SaeSpec(16, 64, 4, seed=3)), {})
    assert "does not fit the activations at L03.resid_post: FVU" in refused(extract, tmp_path / "random", tmp_path / "run")
    weights = tmp_path / "good" / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"W_dec": tensors["W_dec"] * float("nan")}, weights)
    assert "W_dec_FD of the SAELens SAE holds NaN" in refused(extract, tmp_path / "good", tmp_path / "run")
    save_file({name: tensor for name, tensor in tensors.items() if name != "b_dec"}, weights)
    assert "has no 'b_dec'" in refused(extract, tmp_path / "good", tmp_path / "run")


def test_a_square_dictionary_with_a_turned_decoder_is_refused_and_named(extract: Path, tmp_path: Path) -> None:
    sae = SparseAutoencoder(SaeSpec(16, 16, 15))
    with torch.no_grad():
        # Two half spaces of eight directions of a rotation: shifted far enough, every row is rebuilt by the positive half alone.
        rotation, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))
        sae.W_enc_DF.copy_(rotation)
        sae.W_dec_FD.copy_(rotation.T)
        sae.b_dec_D.copy_(-100 * rotation.sum(1))
    with torch.no_grad():
        sae.W_dec_FD.copy_(sae.W_dec_FD.T.clone())
    save_saelens(tmp_path / "turned", sae, {})
    assert "rebuilt only with the decoder matrix transposed" in refused(extract, tmp_path / "turned", tmp_path / "run", "train.gate_fvu=10")
