"""`saebias train --import DIR --hook HOOK` is the setting train.imports."""

from pathlib import Path

import pytest

from saebias.cli.importing import import_overrides
from saebias.config.load import load_config
from saebias.errors import ConfigError


def test_folders_and_hook_points_become_the_setting_even_with_odd_names() -> None:
    folders = [Path("/a folder/it's, [odd]: قاموس"), Path("relative")]
    cfg = load_config(None, import_overrides(folders, ["L03.resid_post", "L04.resid_post"]))
    assert [wanted.folder for wanted in cfg.train.imports] == [folders[0], Path.cwd() / "relative"]
    assert [wanted.hook for wanted in cfg.train.imports] == ["L03.resid_post", "L04.resid_post"]
    assert import_overrides([], []) == []


def test_a_folder_without_a_hook_point_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--import was given 1 times and --hook 0 times"):
        import_overrides([Path("a")], [])
