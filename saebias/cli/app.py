"""The commands. Each is thin: parse, call, print. Heavy packages are imported inside, so that --help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="saebias",
    help=(
        "Is a bilingual image captioner gender-biased, where inside does that live, and can it be removed?\n\n"
        "Start with `saebias run-all`, then ask `saebias query`."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None, typer.Option("-c", "--config", help="YAML file, or the name of a shipped one such as demo. Default: the demonstration.", metavar="FILE")
]
SetOption = Annotated[list[str] | None, typer.Option("-s", "--set", help="Override one value, such as train.k=16. May be repeated.", metavar="KEY=VALUE")]
OnlyOption = Annotated[list[str] | None, typer.Option("--only", help="Only this part of the command. May be repeated.", metavar="PART")]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it again from nothing although it is up to date.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Print what would run, what is up to date, and the estimate of disk, memory and time; do nothing.")]
WorkerOption = Annotated[
    str | None,
    typer.Option("--worker", help="Be worker i of n (from 0) that share the work, each started by itself. A SLURM job array says it.", metavar="I/N"),
]
VerifyOption = Annotated[
    bool,
    typer.Option("--verify", help="Run nothing: read back what was written and compare it with its recorded SHA-256; exit code 2 if it differs."),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but warnings.")]


def _stage_command(group: str | None, name: str, help_text: str) -> None:
    def command(
        config: ConfigOption = None,
        set_: SetOption = None,
        only: OnlyOption = None,
        force: ForceOption = False,
        dry_run: DryOption = False,
        verify: VerifyOption = False,
        quiet: QuietOption = False,
    ) -> None:
        from saebias.cli.stages import run_group

        code = run_group(group, config, set_ or [], only or [], force=force, dry_run=dry_run, verify=verify, quiet=quiet)
        raise typer.Exit(code)

    app.command(name, help=help_text)(command)


def _shared_command(group: str, help_text: str) -> None:
    def command(
        config: ConfigOption = None,
        set_: SetOption = None,
        only: OnlyOption = None,
        worker: WorkerOption = None,
        force: ForceOption = False,
        dry_run: DryOption = False,
        verify: VerifyOption = False,
        quiet: QuietOption = False,
    ) -> None:
        from saebias.cli.stages import run_group

        code = run_group(group, config, set_ or [], only or [], force=force, dry_run=dry_run, verify=verify, quiet=quiet, worker=worker)
        raise typer.Exit(code)

    app.command(group, help=help_text)(command)


_stage_command(
    "prepare", "prepare", "Samples with checked pictures, labelled captions and a three-way split by image.\n\nExample: saebias prepare --set data.n=500"
)
_shared_command("extract", "Activations of the decoder's layers, token by token, into Zarr.\n\nExample: saebias extract --set extract.layers=4")


@app.command(
    help=(
        "Sparse autoencoders on those activations. With --import a dictionary of SAELens, sparsify or dictionary_learning is taken instead of training\n"
        "one; the commands after it need the setting train.imports that is then printed.\n\nExample: saebias train --set train.k=16"
    )
)
def train(
    config: ConfigOption = None,
    set_: SetOption = None,
    only: OnlyOption = None,
    worker: WorkerOption = None,
    import_: Annotated[list[Path] | None, typer.Option("--import", help="Folder of a dictionary of another library. May be repeated.", metavar="DIR")] = None,
    hook: Annotated[list[str] | None, typer.Option("--hook", help="Hook point of each --import, such as L03.resid_post.", metavar="HOOK")] = None,
    force: ForceOption = False,
    dry_run: DryOption = False,
    verify: VerifyOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train or import dictionaries."""
    from saebias.cli.importing import import_overrides
    from saebias.cli.stages import run_group

    imports = import_overrides(import_ or [], hook or [])
    code = run_group("train", config, [*(set_ or []), *imports], only or [], force=force, dry_run=dry_run, verify=verify, quiet=quiet, worker=worker)
    for override in imports:
        typer.echo(f"the commands after it need: --set '{override}'", err=True)
    raise typer.Exit(code)


_shared_command("analyze", "What the model does (bias in captions) and which latents carry gender.\n\nExample: saebias analyze --only behavior")
_stage_command("steer", "steer", "Interventions on the chosen latents, beside their controls.\n\nExample: saebias steer --set steer.layer=4")
_stage_command(
    "mechanistic",
    "mechanistic",
    "Looks inside: what each layer would say, where gender can be read, which parts write it, and what the latents do in each language.\n\n"
    "Parts: lens, probes, alignment, attribution, patching, factored, codes, profile, specificity, matching, contrast, grammar, interactions;\n"
    "a tool's name does as well, such as LogitLens.\n\nExample: saebias mechanistic --only lens",
)
_stage_command("plot", "plot", "Figures with their data, and one HTML report that works offline.\n\nExample: saebias plot")
_stage_command(None, "run-all", "All stages, resumable: what is up to date is skipped.\n\nExample: saebias run-all -c demo --set runtime.artifacts=/tmp/demo")


@app.command(
    help=(
        "Ask the catalogue: one SELECT, or a named query. Bare `saebias query` lists the named ones.\n\n"
        "Example: saebias query skewed_professions --param top=8 --format csv"
    )
)
def query(
    text: Annotated[str | None, typer.Argument(help="A named query, or one SELECT in quotes.", metavar="[NAME|SQL]")] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="A parameter of a named query. May be repeated.", metavar="KEY=VALUE")] = None,
    format_: Annotated[str | None, typer.Option("-f", "--format", help="table, csv, json or parquet. Default: table, or what --out ends in.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write to this file instead of stdout; .csv, .json or .parquet say the format.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the consistency checks; exit code 1 when one finds something.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Ask the catalogue."""
    from saebias.cli.asking import ask

    raise typer.Exit(ask(text, param or [], format_, out, check, config, set_ or []))


@app.command(
    "score",
    help=(
        "Read gender off a file of captions in English or Arabic, from any model: a label per caption with the written evidence, shares and rates with\n"
        "intervals over pictures, prevalence corrected for the labels' own errors.\n\n"
        "FILE is CSV, TSV, JSON lines, Parquet, or plain lines (.txt). Rows that cannot be labelled are set aside with their reason.\n\n"
        "Example: saebias score captions.csv --language ar --image-id image --compare after.csv"
    ),
)
def score(
    file: Annotated[Path | None, typer.Argument(help="The captions.", metavar="FILE")] = None,
    language: Annotated[str | None, typer.Option("--language", help="Language of all captions: en or ar.")] = None,
    caption: Annotated[str | None, typer.Option("--caption", help="Column of the caption. Default: caption.", metavar="COLUMN")] = None,
    language_column: Annotated[
        str | None, typer.Option("--language-column", help="Column of the language. Default: language, where there is one.", metavar="COLUMN")
    ] = None,
    image_id: Annotated[str | None, typer.Option("--image-id", help="Column of the picture: the unit of intervals and comparison.", metavar="COLUMN")] = None,
    context: Annotated[str | None, typer.Option("--context", help="Column of profession or activity: shares for each.", metavar="COLUMN")] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Column of a reference caption, or of its label (F, M, N, X, 0).", metavar="COLUMN")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="Captions of the same pictures after a change: paired differences, with alarms.", metavar="OTHER")
    ] = None,
    audit: Annotated[bool, typer.Option("--audit", help="Print every matched written form with its rule and count instead.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Print the label and the evidence of every caption instead.")] = False,
    benchmark: Annotated[
        Path | None, typer.Option("--benchmark", help="Instead of a FILE: measure how good the labels are on the public data in this folder.", metavar="DIR")
    ] = None,
    format_: Annotated[str, typer.Option("-f", "--format", help="table, csv or json, on stdout.")] = "table",
    force: ForceOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Label a file of captions."""
    from saebias.cli.score import Asked, run_score_command

    columns = {"caption": caption, "language": language_column, "image_id": image_id, "context": context, "reference": reference}
    asked = Asked(file, compare, benchmark, language, columns, "labels" if labels else "audit" if audit else "summary", format_)
    raise typer.Exit(run_score_command(asked, config, set_ or [], force=force, quiet=quiet))


@app.command(help="What is done, what is running, and how far it is.\n\nExample: saebias status --watch")
def status(
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Renew every second until Ctrl-C.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show stages and running processes."""
    from saebias.cli.status import show_status

    show_status(config, set_ or [], watch=watch)


def _version(value: bool) -> None:
    if value:
        from saebias import __version__

        typer.echo(f"saebias {__version__}")
        raise typer.Exit


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """Options before the command."""
