"""Laws of the stage `train`: what is trained, that a broken-off training ends with the same weights, and that bad activations are named."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from saebias.config.load import load_config
from saebias.config.train_schema import MixConfig, SweepConfig, TrainConfig
from saebias.errors import ConfigError, InputError, SaebiasError, StoreError
from saebias.identifiers import HookPoint
from saebias.sae.formats import load_sae
from saebias.stages import train_pass
from saebias.stages.token_index import TokenIndex, balanced_rows
from saebias.stages.train import _trainer_config, run_train
from saebias.stages.train_units import analysis_layer, train_units
from saebias.store.arrays import shard_file

from .planted_activations import planted_values, train_context, write_extract

MAIN = "L03.resid_post.seed7"


class KilledAt:
    """A reporter under which the process ends when so many steps have been counted."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def info(self, message: str, **fields: object) -> None:
        pass

    warn = info

    @contextmanager
    def task(self, label: str, total: int, unit: str = "rows") -> Generator[KilledAt]:
        yield self

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        self.left -= amount
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extract(tmp_path_factory.mktemp("extract"), planted_values(4 * 1024))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(folder.glob("files/*/sae.safetensors")):
        found |= {f"{path.parent.name}.{name}": tensor for name, tensor in load_sae(path)[0].state_dict().items()}
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def unbroken(extract: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run_train(train_context(extract, folder))
    return folder


def test_the_seeds_of_a_hook_point_start_from_different_rows():
    cfg = load_config(None, ["train.seeds=[7,8,9]"])
    assert [_trainer_config(cfg, seed).init_part for seed in (7, 8, 9)] == [(0, 3), (1, 3), (2, 3)]


def test_each_hook_point_has_a_main_dictionary_and_the_analysis_layer_a_second_seed_and_a_control(extract, unbroken):
    rows = train_context(extract, unbroken).table("saes").to_pylist()
    assert {(row["layer"], row["seed"], row["role"], row["frozen_decoder"]) for row in rows} == {
        (0, 7, "main", False),
        (3, 7, "main", False),
        (3, 8, "seed", False),
        (3, 7, "control", True),
    }
    by_role = {row["role"]: row for row in rows if row["layer"] == 3}
    assert by_role["main"]["fvu"] < by_role["control"]["fvu"]


@pytest.mark.parametrize("killed_at", [3, 90, 199])
def test_a_training_killed_and_taken_up_ends_with_the_weights_of_an_unbroken_one(extract, unbroken, tmp_path, killed_at):
    with pytest.raises(KeyboardInterrupt):
        run_train(train_context(extract, tmp_path, reporter=KilledAt(killed_at)))
    assert not list(tmp_path.glob("units/*"))
    assert len(list(tmp_path.glob("checkpoints/*"))) == (0 if killed_at < 40 else 4)
    run_train(train_context(extract, tmp_path))
    assert same(weights(tmp_path), weights(unbroken))
    assert not list(tmp_path.glob("checkpoints/*"))


def test_the_checkpoint_of_a_dictionary_that_is_kept_already_is_cleared_away(extract, unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path / "run")
    left = tmp_path / "run" / "checkpoints" / "L00.resid_post.seed7.safetensors"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"from before the kill")
    run_train(train_context(extract, tmp_path / "run"))
    assert not left.exists()


def test_dictionaries_taken_up_at_different_steps_each_go_on_from_their_own(extract, unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_train(train_context(extract, tmp_path, reporter=KilledAt(90)))
    (tmp_path / "checkpoints" / f"{MAIN}.safetensors").unlink()
    run_train(train_context(extract, tmp_path))
    assert same(weights(tmp_path), weights(unbroken))


def test_how_many_are_trained_at_once_changes_no_weight(extract, unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(train_pass, "PASS_BYTES", 1)
    run_train(train_context(extract, tmp_path))
    assert same(weights(tmp_path), weights(unbroken))


def test_a_buffer_smaller_than_the_rows_trains_as_well_and_resumes_to_the_same_weights(extract, unbroken, tmp_path):
    small = ("train.buffer_rows=128",)
    run_train(train_context(extract, tmp_path / "whole", *small))
    with pytest.raises(KeyboardInterrupt):
        run_train(train_context(extract, tmp_path / "broken", *small, reporter=KilledAt(120)))
    run_train(train_context(extract, tmp_path / "broken", *small))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def test_a_checkpoint_of_another_configuration_is_refused_in_one_line(extract, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_train(train_context(extract, tmp_path, reporter=KilledAt(90)))
    with pytest.raises(InputError, match=r"checkpoint of another training \(k is 4 there and 5 here\)") as caught:
        run_train(train_context(extract, tmp_path, "train.k=5"))
    assert "\n" not in str(caught.value)


def test_a_truncated_checkpoint_and_a_truncated_dictionary_are_named(extract, unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_train(train_context(extract, tmp_path, reporter=KilledAt(90)))
    torn = tmp_path / "checkpoints" / f"{MAIN}.safetensors"
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"L03.resid_post.seed7.safetensors is damaged .* delete it") as caught:
        run_train(train_context(extract, tmp_path))
    assert "\n" not in str(caught.value)
    copy = shutil.copy(unbroken / "files" / MAIN / "sae.safetensors", tmp_path / "sae.safetensors")
    Path(copy).write_bytes(Path(copy).read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"is damaged .* train this SAE again"):
        load_sae(Path(copy))


def spoiled(change) -> np.ndarray:
    values_NLD = planted_values(4 * 1024)
    change(values_NLD)
    return values_NLD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[20].fill(np.nan), r"row 20 at L00.resid_post \(sample s00001, ar, position 4, image token\) is NaN or infinite \(1 such rows to"),
        (lambda x: x[1017, 1].fill(np.inf), r"train: activation row 1017 at L03.resid_post \(sample s00063, ar, position 9, prompt token\) is NaN or infinite"),
        (lambda x: x[2016, 0].fill(0.0), r"train: activation row 2016 at L00.resid_post \(sample s00126, en, position 0, image token\) is all zero"),
        (lambda x: x[33, 1].fill(np.nan), r"train: activation row 33 at L03.resid_post \(sample s00002, en, position 1, image token\) .* to judge on\)"),
        (lambda x: x[:, 1].fill(0.0), r"row \d+ at L03.resid_post \(sample s.*\) is all zero \(\d{4} such rows to learn from\); run `saebias extract --force`"),
        (lambda x: x[:, 1, 5].fill(2.5), r"train L03.resid_post.seed7: dimension 5 is constant"),
    ],
)
def test_activations_that_cannot_train_a_dictionary_are_named_with_it(tmp_path, change, message):
    extract = write_extract(tmp_path / "extract", spoiled(change))
    with pytest.raises(InputError, match=message) as caught:
        run_train(train_context(extract, tmp_path / "train", "train.max_rows=4000"))
    assert "\n" not in str(caught.value)


def test_a_shard_missing_in_the_middle_is_named_and_not_read_as_zeros(tmp_path):
    extract = write_extract(tmp_path / "extract", planted_values(4 * 1024))
    shard_file(extract / "files" / "activations.zarr", 2).unlink()
    with pytest.raises(StoreError, match=r"c/2/0/0 is missing \(activation rows 2048 to 3072\); run `saebias extract`") as caught:
        run_train(train_context(extract, tmp_path / "train"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["train.batch_size=4096"], InputError, "1600 activation rows are fewer than train.batch_size=4096"),
        (["train.k=64"], InputError, r"train L00.resid_post.seed7: k=64 active of 64 latents is not sparse.*see train.k"),
        (["train.expansion=0"], ConfigError, "train.expansion"),
        (["train.seeds=[7,8,7]"], InputError, r"train.seeds=\[7, 8, 7\] names a seed twice"),
        (["train.analysis_layer=2"], InputError, "train.analysis_layer=2: activations of that layer were not kept; choose one of 0, 3"),
        (["train.mix.en=0", "train.mix.ar=0"], InputError, "train.mix gives every token kind and language that there is the weight 0"),
    ],
)
def test_a_configuration_that_trains_nothing_is_refused_in_one_line(extract, tmp_path, overrides, error, message):
    with pytest.raises(error, match=message) as caught:
        run_train(train_context(extract, tmp_path, *overrides))
    assert issubclass(error, SaebiasError)
    assert "\n" not in str(caught.value)


def test_leading_positions_and_weights_decide_which_rows_are_learned_from():
    n = 4000
    kinds, languages = np.array(["image", "prompt", "caption"])[np.arange(n) % 3], np.array(["en", "ar"])[np.arange(n) // 3 % 2]
    columns = dict.fromkeys(TokenIndex.__dataclass_fields__, np.zeros(n)) | {"row": np.arange(n), "token_kind": kinds, "language": languages}
    index = TokenIndex(**columns)
    of_kind, of_language = {"image": 1.0, "prompt": 1.0, "caption": 3.0}, {"en": 0.0, "ar": 1.0}
    weights = {(kind, language): of_kind[kind] * of_language[language] for kind in of_kind for language in of_language}
    chosen = index.where(balanced_rows(index, 500, 1, weights))
    assert (chosen.language == "ar").all()
    assert {kind: int((chosen.token_kind == kind).sum()) for kind in ("image", "prompt", "caption")} == {"image": 100, "prompt": 100, "caption": 300}
    assert np.array_equal(balanced_rows(index, 500, 1), balanced_rows(index, 500, 1, dict.fromkeys(weights, 1.0)))


def test_the_analysis_layer_is_two_thirds_up_those_kept():
    assert analysis_layer(range(8), None) == 5
    assert analysis_layer([3], None) == 3
    assert analysis_layer([0, 2, 5, 7], None) == 5


def test_a_sweep_trains_every_size_but_the_main_one_twice():
    cfg = TrainConfig(k=32, expansion=8, seeds=[1], sweep=SweepConfig(k=[16, 32], expansion=[4, 8]), mix=MixConfig())
    units = train_units(cfg, [HookPoint(layer) for layer in range(8)])
    assert {(unit.k, unit.expansion) for unit in units if unit.role == "sweep"} == {(16, 4), (16, 8), (32, 4)}
    assert {unit.hook.layer for unit in units if unit.role == "sweep"} == {5}
    assert len({unit.name for unit in units}) == len(units) == 8 + 3 + 1


def test_other_sizes_and_architectures_train_beside_the_main_dictionaries_without_changing_them(extract, unbroken, tmp_path):
    run_train(train_context(extract, tmp_path, "train.sweep.k=[2,4]", "train.sweep.expansion=[4,6]"))
    rows = train_context(extract, tmp_path).table("saes").to_pylist()
    assert {(row["layer"], row["k"], row["n_latents"]) for row in rows if row["role"] == "sweep"} == {(3, 2, 64), (3, 2, 96), (3, 4, 96)}
    swept, plain = weights(tmp_path), weights(unbroken)
    assert all(torch.equal(swept[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu", "gated", "relu", "matryoshka"])
def test_every_architecture_can_be_asked_for_and_is_taken_up_to_the_same_weights(extract, tmp_path, architecture):
    chosen = (f"train.architecture={architecture}", "train.seeds=[7]", "train.epochs=1")
    run_train(train_context(extract, tmp_path / "whole", *chosen))
    with pytest.raises(KeyboardInterrupt):
        run_train(train_context(extract, tmp_path / "broken", *chosen, reporter=KilledAt(40)))
    run_train(train_context(extract, tmp_path / "broken", *chosen))
    assert {row["architecture"] for row in train_context(extract, tmp_path / "whole").table("saes").to_pylist()} == {architecture}
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
