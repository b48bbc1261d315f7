"""The entry point: one line and exit code 2 for an error that a person can act on, a traceback for a bug."""

from __future__ import annotations

import io
import os
import sys
from functools import partial

from saebias.errors import SaebiasError


def main() -> None:
    """Run the command line; never returns."""
    # Progress bars and warnings of the model libraries would tear through ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A thread that waits for its share of a step gives its core back soon: on a machine where another program uses one of two cores, training
    # took 52 s with this, more than 100 s with the default, and 26 s either way on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    for stream in (sys.stdout, sys.stderr):
        # Arabic must come out whatever the locale claims.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        _command()
    except SaebiasError as error:
        print(f"saebias: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("saebias: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (PermissionError, IsADirectoryError, NotADirectoryError, FileNotFoundError) as error:
        # Files named by the user, wherever they are opened: the path and the system's word for what is wrong with it.
        print(f"saebias: {error.filename}: {error.strerror}; name another path, or change its permissions", file=sys.stderr)
        sys.exit(2)


def _command() -> None:
    from saebias.cli.app import app

    # Imported only where torchrun may have started this process: --help is to be quick.
    if "RANK" in os.environ:
        from saebias.stages.train_sharded import follow, is_shared, shared_processes

        if is_shared(os.environ):
            with shared_processes(os.environ) as peers:
                work = app if peers.leads else partial(follow, peers)
                work()
            return
    app()


if __name__ == "__main__":
    main()
