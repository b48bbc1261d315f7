"""`python -m saebias.captioner train SPEC... --out DIR` makes captioners; `gates SPEC|FOLDER` measures one; `mini` builds the one from real parts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from saebias.captioner.gates import GateReport, check_gates
from saebias.captioner.mini import mini_folder
from saebias.captioner.mini_build import build_mini, measure_mini
from saebias.captioner.mini_figures import MiniFigure
from saebias.captioner.mini_training import MiniRecipe
from saebias.captioner.shipped import NAMES, shipped_model
from saebias.captioner.spec import CaptionerSpec, load_spec
from saebias.captioner.train import train_captioners
from saebias.errors import SaebiasError
from saebias.vlm.threads import usable_cores


class LineReporter:
    """Progress as plain lines on stderr, about fifty a task."""

    def info(self, message: str, **fields: object) -> None:
        """Say something a user may want to know."""
        print(message, *(f"{key}={value}" for key, value in fields.items()), file=sys.stderr, flush=True)

    def warn(self, message: str, **fields: object) -> None:
        """Say something a user must not miss."""
        self.info(f"warning: {message}", **fields)

    def task(self, label: str, total: int, unit: str = "rows") -> LineTask:
        """Count `total` units of work."""
        return LineTask(self, label, total, unit)


class LineTask:
    """One counted piece of work."""

    def __init__(self, reporter: LineReporter, label: str, total: int, unit: str) -> None:
        self.reporter, self.label, self.total, self.unit = reporter, label, total, unit
        self.done, self.started = 0, time.monotonic()

    def __enter__(self) -> LineTask:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        """Count `amount` more units as done, and print a line for every fiftieth of the whole."""
        before, self.done = self.done, self.done + amount
        if self.done == self.total or self.done * 50 // self.total > before * 50 // self.total:
            self.reporter.info(f"{self.label}: {self.done}/{self.total} {self.unit}, {time.monotonic() - self.started:.0f} s", **fields)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when all gates hold, 1 when one fails, 2 for a mistake in what was asked."""
    parser = argparse.ArgumentParser(prog="python -m saebias.captioner", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a captioner per SPEC (skewed, null or a YAML file) and check its gates")
    train.add_argument("specs", nargs="+", metavar="SPEC")
    train.add_argument("--out", type=Path, default=Path("artifacts/captioners"), help="parent of the written folders, one per spec (default %(default)s)")
    gates = commands.add_parser("gates", help="check the gates of a packaged captioner, or of one in a folder")
    gates.add_argument("source", metavar="SPEC|FOLDER")
    gates.add_argument("--spec", help="spec of a captioner in a folder (default: the one named in its provenance.json)")
    gates.add_argument("--images", type=int, default=1600)
    gates.add_argument("--seed", type=int, default=990_001)
    mini = commands.add_parser("mini", help="build the captioner from real parts (EfficientNet-Lite0, Gemma 3 270M) into the cache")
    mini.add_argument("--out", type=Path, help="folder to write (default: where model.name=saebias:mini-gemma3 looks)")
    mini.add_argument("--accept-license", metavar="NAME", help="`gemma`: you accept Google's Gemma Terms of Use")
    mini.add_argument("--steps", type=int, default=MiniRecipe.steps)
    mini.add_argument("--pool", type=int, default=MiniRecipe.pool_scenes, help="scenes to train on")
    mini.add_argument("--images", type=int, default=400, help="fresh pictures per part for the figures")
    mini.add_argument("--measure", action="store_true", help="build nothing: only the figures of the captioner that is there")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="threads of torch: take 1 where others use the cores, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        if options.command == "mini":
            return _run_mini(options)
        if options.command == "train":
            reports = train_captioners([load_spec(spec) for spec in options.specs], options.out, LineReporter())
        else:
            folder, spec = _measured(options.source, options.spec)
            reports = [check_gates(folder, spec, n_images=options.images, seed=options.seed)]
    except SaebiasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for report in reports:
        print(table(report))
    return 0 if all(report.passed for report in reports) else 1


def _run_mini(options: argparse.Namespace) -> int:
    spec, folder, accepted = load_spec("null"), options.out or mini_folder(), options.accept_license
    if options.measure:
        figures = measure_mini(spec, folder, accepted, figure_images=options.images)
    else:
        recipe = MiniRecipe(steps=options.steps, pool_scenes=options.pool)
        figures = build_mini(spec, recipe, folder, accepted, LineReporter(), figure_images=options.images)
    print("\n".join([f"captioner in {folder}: figures with 95 % intervals over drawings", *map(figure_line, figures)]))
    return 0


def table(report: GateReport) -> str:
    """The report as aligned lines of text, and a last line that says whether all gates hold."""
    lines = [f"captioner {report.spec_name} in {report.folder}", f"{'part':<20}{'language':<10}{'figure':<22}{'value':>9}  gate"]
    for row in report.gates:
        gate = "reported" if row.passed is None else f"{row.low:g} .. {row.high:g}  {'ok' if row.passed else 'FAILED'}"
        lines.append(f"{row.part:<20}{row.language:<10}{row.name:<22}{row.value:>9.4f}  {gate}")
    return "\n".join([*lines, "all gates hold" if report.passed else "some gates FAILED"])


def figure_line(row: MiniFigure) -> str:
    """One figure with its interval as a line of text."""
    interval = f"{row.value:.3f}  [{row.low:.3f}, {row.high:.3f}]"
    return f"{row.name:<26}{row.part:<16}{row.language:<4}{interval}  {row.n_images} pictures of {row.n_drawings} drawings"


def _measured(source: str, spec: str | None) -> tuple[Path, CaptionerSpec]:
    if source in NAMES:
        return shipped_model(source), load_spec(spec or source)
    folder = Path(source)
    if spec is None:
        record = folder / "provenance.json"
        if not record.is_file():
            raise SaebiasError(f"{source} is no packaged captioner ({', '.join(NAMES)}) and has no provenance.json; add --spec to name its plant")
        said = json.loads(record.read_text(encoding="utf-8"))
        if "terms" in said:
            raise SaebiasError(f"{source} is the captioner from real parts, which no plant was taught; measure it with `mini --measure --out {source}`")
        spec = said["spec"]
    return folder, load_spec(spec)


if __name__ == "__main__":
    sys.exit(main())
