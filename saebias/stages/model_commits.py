"""With which commit of an unpinned hub model an artifacts folder was made: a model that moved on must not be mixed with what its former self left there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from saebias.config.schema import Config
from saebias.errors import ModelError
from saebias.store.files import read_json_object, write_text

if TYPE_CHECKING:
    from saebias.vlm.loading import LoadedModel

MEMORY = "model-commits.json"


def is_unpinned(loaded: LoadedModel) -> bool:
    """Whether the model came from the hub without a revision: what its name stands for may change."""
    return loaded.revision is None and not Path(loaded.name).is_dir()


def hold_to_commit(cfg: Config, loaded: LoadedModel) -> None:
    """Remember in the artifacts folder which commit of an unpinned hub model was loaded; raises ModelError when it was another before."""
    if not is_unpinned(loaded):
        return
    path = cfg.runtime.artifacts / MEMORY
    known = read_json_object(path) or {}
    before = known.get(loaded.name)
    if before is None:
        write_text(path, json.dumps({**known, loaded.name: loaded.digest}, indent=1))
    elif before != loaded.digest:
        raise ModelError(
            f"{cfg.runtime.artifacts}: its results were made with another revision of {loaded.name} (commit {before}; now it is {loaded.digest}); "
            f"set model.revision={before} for the former one or model.revision={loaded.digest} for this one: pinned, stages run anew beside what is there"
        )


def unpinned_warning(loaded: LoadedModel) -> str | None:
    """What to say of a hub model without a revision, or None."""
    if not is_unpinned(loaded):
        return None
    return f"model.name={loaded.name} is not pinned; commit {loaded.digest} was loaded: set model.revision={loaded.digest}, so that others load the same"
