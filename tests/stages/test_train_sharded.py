"""`train` under torchrun: one run, one catalogue, one file a dictionary, and the weights of a single process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saebias.errors import ConfigError
from saebias.pipeline.claims import Crew
from saebias.sae.formats import load_sae
from saebias.stages.train import run_train
from saebias.stages.train_sharded import SHARES_LATENTS, is_shared

from ..sae.test_sharded import torchrun
from .planted_activations import planted_values, train_context, write_extract

pytestmark = pytest.mark.slow
CHOICES = ("train.architecture=matryoshka", "train.dead_after_rows=400", "train.seeds=[7]", "train.epochs=1")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(folder.glob("files/*/sae.safetensors")):
        found |= {f"{path.parent.name}.{name}": tensor for name, tensor in load_sae(path)[0].state_dict().items()}
    return found


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_extract(tmp_path_factory.mktemp("extract"), planted_values(2 * 1024))


def test_processes_that_share_every_dictionary_leave_what_one_process_leaves(extract, tmp_path):
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    done = torchrun(2, "tests.stages.sharded_child", str(extract), str(shared), *CHOICES)
    assert done.returncode == 0, done.stderr[-3000:]
    run_train(train_context(extract, alone, *CHOICES))
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (shared, alone)]
    assert files[0] == files[1]
    found, wanted = weights(shared), weights(alone)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    columns = [train_context(extract, folder, *CHOICES).table("saes").sort_by("sae_id").to_pydict() for folder in (shared, alone)]
    assert columns[0]["sae_id"] == columns[1]["sae_id"]
    np.testing.assert_allclose(columns[0]["fvu"], columns[1]["fvu"], rtol=1e-3)
    assert columns[0]["kept_step"] == columns[1]["kept_step"]


def test_rows_that_cannot_be_learned_from_end_all_processes_with_one_line(tmp_path):
    values_NLD = planted_values(2 * 1024)
    values_NLD[:, :, 3] = 1.0
    extract = write_extract(tmp_path / "extract", values_NLD)
    done = torchrun(2, "tests.stages.sharded_child", str(extract), str(tmp_path / "run"))
    assert done.returncode != 0
    assert done.stderr.count("dimension 3 is constant over the first") == 1


def test_a_worker_of_a_command_that_torchrun_started_refuses_to_train(extract, tmp_path, monkeypatch):
    ctx = train_context(extract, tmp_path)
    ctx.crew = Crew(tmp_path, 0, 2)
    monkeypatch.setenv(SHARES_LATENTS, "2")
    with pytest.raises(ConfigError, match=r"set runtime\.workers=1, or leave torchrun out"):
        run_train(ctx)


def test_torchrun_is_known_by_what_it_sets():
    all_set = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    assert is_shared(all_set)
    assert not is_shared(all_set | {"WORLD_SIZE": "1"})
    assert not is_shared({"WORLD_SIZE": "2"})
