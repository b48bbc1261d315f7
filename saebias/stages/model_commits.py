"""With which commit of an unpinned hub model an artifacts folder was made: a model that moved on must not be mixed with what its former self left there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebias.config.schema import Config
from saebias.errors import ModelError, StoreError
from saebias.store.files import read_json_object, update_json_object

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
    before = first_commit(cfg.runtime.artifacts, loaded.name, loaded.digest)
    if before != loaded.digest:
        raise ModelError(
            f"{cfg.runtime.artifacts}: its results were made with another revision of {loaded.name} (commit {before}; now it is {loaded.digest}); "
            f"set model.revision={before} for the former one or model.revision={loaded.digest} for this one: pinned, stages run anew beside what is there"
        )


def first_commit(artifacts: Path, name: str, commit: str) -> str:
    """The commit of model `name` that was recorded first in an artifacts folder: `commit`, and recorded from now on, where there was none.

    Any number of processes may record at once. Raises StoreError where the record cannot be read: what it said is not to be forgotten in silence.
    """
    path = artifacts / MEMORY
    known = read_json_object(path) or {}
    if name not in known:
        # Looked at again under a lock. A folder that cannot be written is asked for none as long as there is nothing to write.
        known = update_json_object(path, lambda found: _recorded(path, found, name, commit))
    return known[name]


def _recorded(path: Path, found: dict[str, Any], name: str, commit: str) -> dict[str, Any]:
    if not found and path.exists():
        raise StoreError(f"{path}: is damaged, so which commits of models this folder was made with is not known; delete it to go on with those of today")
    return {name: commit, **found}


def unpinned_warning(loaded: LoadedModel) -> str | None:
    """What to say of a hub model without a revision, or None."""
    if not is_unpinned(loaded):
        return None
    return f"model.name={loaded.name} is not pinned; commit {loaded.digest} was loaded: set model.revision={loaded.digest}, so that others load the same"
