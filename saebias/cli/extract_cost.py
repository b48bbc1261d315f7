"""`saebias extract --dry-run`: what timed batches say that the whole will take."""

from __future__ import annotations

from saebias.cli.console import make_reporter
from saebias.cli.tables import output, print_rows
from saebias.config.schema import Config
from saebias.errors import MissingParent


def print_measured_cost(cfg: Config) -> None:
    """Print rows, bytes and seconds per hook point and in total; says what is missing where nothing can be timed yet."""
    from saebias.stages.extract_dry_run import measured_cost

    reporter = make_reporter(quiet=True)
    try:
        cost = measured_cost(cfg, reporter)
    except MissingParent as error:
        reporter.warn(str(error))
        return
    names = ("hook point", "rows", "MiB on disk", "seconds in the model")
    rows = [(hook.hook, f"{hook.rows:,}", f"{hook.disk_bytes / 2**20:.1f}", f"{hook.seconds:.1f}") for hook in cost.hooks]
    with output():
        print_rows(names, (False, True, True, True), rows)
        print(
            f"extract: {cost.captions:,} captions ({cost.refused:,} known to be left out), {cost.rows:,} rows in {cost.shards:,} shards: "
            f"{cost.disk_bytes / 2**20:,.0f} MiB on disk, {cost.memory_bytes / 2**20:,.0f} MiB of memory at the peak, about {cost.seconds:,.0f} s"
        )
        print(f"basis: {cost.basis}")
