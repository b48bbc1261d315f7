"""What the workers of a run say in their logs, said again to whoever watches, each sentence once."""

from __future__ import annotations

import json
from pathlib import Path

from saebias.pipeline.logs import TASK_DONE
from saebias.report import Reporter


class Echo:
    """Reads on in the workers' logs."""

    def __init__(self, run_folder: Path, reporter: Reporter) -> None:
        self._folder, self._reporter = run_folder / "log", reporter
        # What earlier attempts wrote was said then.
        self._read = {path: path.stat().st_size for path in self._paths()}
        self._said: set[str] = set()

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("worker-*.log"))

    def read(self) -> None:
        """Pass on what was written since."""
        for path in self._paths():
            start = self._read.get(path, 0)
            if path.stat().st_size < start:
                # The log was rotated.
                start = 0
            with path.open("rb") as stream:
                stream.seek(start)
                block = stream.read()
            whole = block[: block.rfind(b"\n") + 1]
            self._read[path] = start + len(whole)
            for line in whole.splitlines():
                self._say(line)

    def _say(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            # The line that a worker was killed in the middle of.
            return
        text = event["event"]
        if text == TASK_DONE or event["level"] == "error" or text in self._said:
            return
        self._said.add(text)
        (self._reporter.warn if event["level"] == "warning" else self._reporter.info)(text)
