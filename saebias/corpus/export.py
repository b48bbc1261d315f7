"""The corpus as a `samples.csv` that a person, a spreadsheet or `saebias prepare` itself can read."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from saebias.corpus.records import SampleRecord
from saebias.errors import InputError, StoreError

COLUMNS = ("sample_id", "image", *(field.name for field in fields(SampleRecord) if field.name != "sample_id"))


def write_samples_csv(path: str | Path, samples: Iterable[SampleRecord], image_path: Mapping[str, str | Path]) -> Path:
    """Write `samples` to `path` with one header line, in UTF-8, and give the path; `image_path` is the file of each image id.

    The file appears whole or not at all. Read back through `read_table` with `ColumnMap(cluster="cluster_id")` it gives the same rows; paths under the
    file's folder are written relative to it, so that folder can be moved. Raises InputError for an image without a path, StoreError when it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Plain UTF-8 without a byte-order mark: with one, many readers see a first column named "\ufeffsample_id".
        # RFC 4180 line ends: with "\n" alone the csv module leaves a lone "\r" inside a caption unquoted.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                writer = csv.writer(file, lineterminator="\r\n")
                writer.writerow(COLUMNS)
                writer.writerows(_cells(sample, path.parent, image_path) for sample in samples)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}; free space there or choose another folder") from error
    return path


def _cells(sample: SampleRecord, folder: Path, image_path: Mapping[str, str | Path]) -> list[str | None]:
    if sample.image_id not in image_path:
        raise InputError(f"image {sample.image_id!r} of sample {sample.sample_id!r} has no path; give one for every image")
    picture = Path(image_path[sample.image_id])
    values = {name: getattr(sample, name) for name in COLUMNS if name != "image"}
    values["image"] = str(picture.relative_to(folder) if picture.is_relative_to(folder) else picture.absolute())
    values["held_out"] = "true" if sample.held_out else "false"
    for name in ("caption_en", "caption_ar"):
        # A reader takes "[...]" for a list of captions.
        if values[name] is not None and values[name].startswith("["):
            values[name] = json.dumps([values[name]], ensure_ascii=False)
    return [values[name] for name in COLUMNS]
