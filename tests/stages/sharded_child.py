"""What each of the processes does that share the dictionaries of a `train` run: started by test_train_sharded with `python -m torch.distributed.run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from saebias.errors import SaebiasError
from saebias.stages.train import run_train
from saebias.stages.train_sharded import follow, shared_processes

from .planted_activations import train_context


def main(extract: Path, folder: Path, overrides: list[str]) -> None:
    """The leading process runs the stage as it always is, the others follow."""
    with shared_processes(os.environ) as peers:
        if peers.leads:
            run_train(train_context(extract, folder, *overrides))
        else:
            follow(peers)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except SaebiasError as error:
        print(f"saebias: {error}", file=sys.stderr)
        sys.exit(2)
