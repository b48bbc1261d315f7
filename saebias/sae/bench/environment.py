"""The peers' own Python environment: made once in a cache folder, so that none of their dependencies touches this program's.

What is installed stands in `peers.txt`, every package with its version and none through a dependency: torchvision, which SAELens' dependencies ask for, is
left out because a CPU torch cannot load it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from saebias.errors import InputError

REQUIREMENTS = Path(__file__).with_name("peers.txt")
PACKAGE_ROOT = Path(__file__).resolve().parents[3]


def cache_folder() -> Path:
    """Where environments, activations and dictionaries of the benchmark are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saebias" / "bench"


def peers_python(cache: Path) -> Path:
    """The Python of the peers' environment, which is made first when it is missing (about two minutes and 2 GB, packages from the configured index).

    Raises InputError when the packages cannot be installed.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / f"peers-{digest}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"making the peers' environment in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS)]
        if (code := subprocess.run(command, check=False).returncode) != 0:
            raise InputError(f"the peers could not be installed (pip ended with {code}, see above); check the package index, or run without --peers")
        done.touch()
    return python


def run_child(python: Path, task: Mapping[str, object]) -> dict[str, float]:
    """What `python -m saebias.sae.bench.child` answers to a task, in a process of its own; raises InputError when it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(PACKAGE_ROOT),
        "WANDB_MODE": "disabled",
        "SPARSIFY_DISABLE_TRITON": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [str(python), "-m", "saebias.sae.bench.child", json.dumps(task)], env=environment, cwd=PACKAGE_ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{task['trainer']} failed: {last[:300]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
