import pytest

from saebias.captioner.spec import load_spec


@pytest.fixture(scope="session")
def skewed():
    return load_spec("skewed")


@pytest.fixture(scope="session")
def null():
    return load_spec("null")


@pytest.fixture(scope="session")
def untrained(skewed, tmp_path_factory):
    from saebias.captioner.model import build_model, save_captioner

    return save_captioner(build_model(skewed), skewed, tmp_path_factory.mktemp("untrained"))
