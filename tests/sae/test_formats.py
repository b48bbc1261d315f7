"""Round trips of dictionaries through disk, and what a damaged file says."""

import pytest
import torch
from safetensors.torch import save_file

from saebias.errors import InputError, StoreError
from saebias.sae.formats import load_sae, save_sae
from saebias.sae.module import SaeSpec, SparseAutoencoder

META = {"hook": "L03.resid_post", "languages": ["en", "ar"], "rows": 5}


@pytest.fixture
def sae() -> SparseAutoencoder:
    return SparseAutoencoder(SaeSpec(8, 30, 3, seed=4, frozen_decoder=True))


def test_a_saved_sae_is_the_loaded_one(sae, tmp_path):
    paths = save_sae(tmp_path / "new", sae, META)
    for place in (tmp_path / "new", paths[0]):
        loaded, meta = load_sae(place)
        assert meta == META
        assert loaded.spec == sae.spec
        assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in sae.state_dict().items())


def test_saving_leaves_one_file_and_replaces_an_older_one(sae, tmp_path):
    save_sae(tmp_path, SparseAutoencoder(SaeSpec(4, 9, 2)), META)
    save_sae(tmp_path, sae, META)
    assert [path.name for path in tmp_path.iterdir()] == ["sae.safetensors"]
    assert load_sae(tmp_path)[0].spec == sae.spec


@pytest.mark.parametrize("kept", [0, 5, 100, 1000])
def test_a_truncated_file_is_one_clear_line(sae, tmp_path, kept):
    (path,) = save_sae(tmp_path, sae, META)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match="is damaged") as caught:
        load_sae(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_command_and_a_foreign_one_says_so(tmp_path):
    with pytest.raises(StoreError, match="saebias train"):
        load_sae(tmp_path)
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no saebias SAE"):
        load_sae(tmp_path / "other.safetensors")


def test_metadata_that_is_not_json_is_refused_and_leaves_nothing_behind(sae, tmp_path):
    with pytest.raises(InputError, match="plain JSON"):
        save_sae(tmp_path, sae, {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
