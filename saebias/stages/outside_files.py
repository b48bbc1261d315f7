"""Files outside the artifacts folder that decide a number beside those a configuration names one by one: the pictures of a table, a captioner's spec."""

from __future__ import annotations

from pathlib import Path

from saebias.config.schema import Config


def table_pictures(cfg: Config) -> list[Path]:
    """The picture of every row of the user's table as the table names it, whether there is such a file or not; none for the demonstration.

    Raises InputError for a table that cannot be read.
    """
    data = cfg.data
    if data.source != "table" or data.table is None:
        return []
    from saebias.corpus.column_map import ColumnMap, bind
    from saebias.corpus.table_formats import RowFault, column_names, table_rows

    binding = bind(data.table, ColumnMap(**data.columns.model_dump()), column_names(data.table))
    root = data.table.parent if data.image_root is None else data.image_root
    found = set()
    for _, values in table_rows(data.table, [binding.column("image")]):
        if not isinstance(values, RowFault) and isinstance(values[0], str) and values[0].strip():
            found.add(values[0].strip())
    return [root / name for name in sorted(found)]


def captioner_spec(cfg: Config) -> list[Path]:
    """The spec that the demonstration's scenes and captions are drawn by, with those it extends; none for a table."""
    if cfg.data.source != "emoji":
        return []
    from saebias.captioner.spec import spec_files

    return spec_files(cfg.data.captioner)
