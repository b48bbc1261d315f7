"""Activation arrays in Zarr v3: one array [row, layer, d] per shard group, whole shards only, bfloat16 kept as uint16."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

from saebias.errors import StoreError
from saebias.identifiers import HookPoint
from saebias.store.files import read_json_object, translated_disk_errors

# Legend: N rows, L hook points, D model dimension.
_CHUNK_ROWS = 256
"""The fewest rows of a chunk; shards are whole multiples of it."""
_CHUNK_BYTES = 2**20
"""What a chunk may hold at most, as far as its fewest rows allow it."""
_SPAN_ROWS = 2**14
"""Rows that are read at a time where single ones are picked."""


def create_activations(
    path: Path, hooks: Sequence[HookPoint], n_rows: int, d_model: int, *, dtype: str, shard_rows: int, model: Mapping[str, str | None] | None = None
) -> None:
    """Create the array once, pre-sized for whole shards; an existing array of the same form, made by the same `model`, is left alone.

    Raises StoreError when an array of another form, or by another model or revision, lies there: a store is never overwritten.
    """
    n_shards = max(1, -(-n_rows // shard_rows))
    chunk_rows, row_bytes = _chunk_rows(dtype, d_model, shard_rows)
    attributes: dict[str, Any] = {"hooks": [h.name for h in hooks], "n_rows": n_rows, "dtype": dtype, "shard_rows": shard_rows, "d_model": d_model}
    attributes["model"] = dict(model or {})
    form = read_json_object(path / "zarr.json", ("shape", "attributes"))
    if form is None:
        # A torn description counts as none. Shards that lie here are left: the units that name another description than comes out are done again.
        with translated_disk_errors(path):
            (path / "zarr.json").unlink(missing_ok=True)
    else:
        found = form["attributes"]
        if found.get("model") != attributes["model"]:
            raise StoreError(
                f"{path}: holds activations of another model or revision ({_told(found.get('model'))}; now it is {_told(attributes['model'])}); "
                "run `saebias extract --force` to replace them, or choose another artifacts folder"
            )
        if found != attributes:
            raise StoreError(f"{path}: holds activations of another form ({found}); choose another artifacts folder or delete it")
        return
    with translated_disk_errors(path):
        zarr.create_array(
            store=str(path),
            shape=(n_shards * shard_rows, len(hooks), d_model),
            chunks=(chunk_rows, 1, d_model),
            shards=(shard_rows, len(hooks), d_model),
            dtype="uint16" if dtype == "bfloat16" else "float32",
            # Shuffled, the exponents, which hardly vary, lie side by side, and zstd codes them in fewer bits. One block a chunk: in the smaller ones
            # that blosc takes by itself, activations of Gemma 3 270M take .80 of their bytes instead of .56.
            # The checksum finds a flipped bit, which would otherwise be trained on.
            compressors=(BloscCodec(cname="zstd", clevel=1, shuffle=BloscShuffle.shuffle, blocksize=chunk_rows * row_bytes), Crc32cCodec()),
            attributes=attributes,
            # Without it an all-zero shard leaves no file, and a finished shard would look like a missing one.
            config={"write_empty_chunks": True},
        )


def _chunk_rows(dtype: str, d_model: int, shard_rows: int) -> tuple[int, int]:
    """(rows of a chunk, bytes of a row): each chunk costs time of its own, and more rows together are compressed better."""
    row_bytes = d_model * (2 if dtype == "bfloat16" else 4)
    rows = _CHUNK_ROWS
    while shard_rows % (2 * rows) == 0 and 2 * rows * row_bytes <= _CHUNK_BYTES and 2 * rows <= _SPAN_ROWS:
        rows *= 2
    return rows, row_bytes


def _told(model: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in (model or {}).items()) or "nobody said which"


def as_stored(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros in the form in which activations of number format `dtype` lie on disk: bfloat16 as the uint16 of its bits."""
    return np.zeros(shape, dtype=np.uint16 if dtype == "bfloat16" else np.float32)


def shard_file(path: Path, shard: int) -> Path:
    """The file that shard number `shard` is stored in."""
    return path / "c" / str(shard) / "0" / "0"


def write_shard(path: Path, shard: int, values_NLD: np.ndarray) -> Path:
    """Write one whole shard (float32, or uint16 as stored; fewer rows than a shard only for the last, padded with zeros); returns its file."""
    # An array that is opened again does not remember how it was created to treat empty chunks.
    array = zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})
    shard_rows = _attributes(array)["shard_rows"]
    is_short = array.dtype == np.uint16
    stored = values_NLD if values_NLD.dtype == array.dtype else _to_bfloat16_bits(values_NLD) if is_short else values_NLD.astype(np.float32)
    if len(stored) < shard_rows:
        padded = np.zeros((shard_rows, *stored.shape[1:]), dtype=stored.dtype)
        padded[: len(stored)] = stored
        stored = padded
    with translated_disk_errors(path):
        # A damaged shard would be read before it is written over.
        shard_file(path, shard).unlink(missing_ok=True)
        array[shard * shard_rows : (shard + 1) * shard_rows] = stored
    return shard_file(path, shard)


class ActivationArray:
    """Read access to a run's activations: rows of one hook point as float32."""

    def __init__(self, path: Path) -> None:
        """Open the array at `path`; raises StoreError when it is not there."""
        if not (path / "zarr.json").exists():
            raise StoreError(f"{path}: no activations here; run `saebias extract` first")
        if read_json_object(path / "zarr.json", ("shape", "attributes")) is None:
            raise StoreError(f"{path / 'zarr.json'}: is torn; run `saebias extract` again")
        self._array = zarr.open_array(path, mode="r")
        self.path = path
        attributes = _attributes(self._array)
        self.hooks = [HookPoint.parse(name) for name in attributes["hooks"]]
        self.n_rows: int = attributes["n_rows"]
        self.d_model: int = attributes["d_model"]
        self.shard_rows: int = attributes["shard_rows"]

    def position(self, hook: HookPoint) -> int:
        """Where `hook` lies on the array's second axis; raises StoreError naming those that are kept."""
        if hook not in self.hooks:
            raise StoreError(f"{self.path}: hook point {hook} was not extracted; kept are {', '.join(h.name for h in self.hooks)}")
        return self.hooks.index(hook)

    def read(self, hook: HookPoint, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start..stop of one hook point, float32 [N, D]."""
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        return _to_float32(self._block(start, stop, self.position(hook)))

    def _block(self, start: int, stop: int, layer: int) -> np.ndarray:
        try:
            return np.asarray(self._array[start:stop, layer, :])
        except (ValueError, RuntimeError) as error:
            raise StoreError(f"{self.path}: rows {start} to {stop} are damaged ({' '.join(str(error).split())[:80]}); run `saebias extract --force`") from None

    def read_rows(self, hook: HookPoint, rows: np.ndarray) -> np.ndarray:
        """The rows at sorted indices `rows`, float32 [N, D]; whole chunks are read, never single rows."""
        layer = self.position(hook)
        out = np.empty((len(rows), self.d_model), dtype=np.float32)
        for start in range(0, self.n_rows, _SPAN_ROWS):
            first, last = np.searchsorted(rows, (start, start + _SPAN_ROWS))
            if last > first:
                block = self._block(start, min(start + _SPAN_ROWS, self.n_rows), layer)
                out[first:last] = _to_float32(block[rows[first:last] - start])
        return out


class ZarrSpill:
    """Activations that memory has no room for, as Zarr arrays in a folder of their own that `close` removes: the `spill` of an ActivationCache."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError when the folder holds something already: closing would remove it."""
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(f"{folder}: is not empty, and a spill removes its folder at the end; name a folder of its own")
        self.folder = folder
        self._counts: dict[HookPoint, int] = {}

    def append(self, hook: HookPoint, x_RTD: np.ndarray) -> None:
        """Keep one part [R, T, D], float32."""
        number = self._counts.get(hook, 0)
        with translated_disk_errors(self.folder):
            array = zarr.create_array(store=str(self._place(hook, number)), shape=x_RTD.shape, chunks=x_RTD.shape, dtype="float32", compressors=None)
            array[:] = x_RTD
        self._counts[hook] = number + 1

    def parts(self, hook: HookPoint) -> Iterator[np.ndarray]:
        """The parts in the order they came, one at a time."""
        for number in range(self._counts.get(hook, 0)):
            yield np.asarray(zarr.open_array(str(self._place(hook, number)), mode="r")[:])

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._counts.clear()

    def _place(self, hook: HookPoint, number: int) -> Path:
        return self.folder / hook.name / f"{number:06d}"


def _attributes(array: zarr.Array) -> dict[str, Any]:
    return dict(array.attrs)


def _to_bfloat16_bits(values: np.ndarray) -> np.ndarray:
    # Round to nearest, ties to even, on the bit pattern; values are finite (checked where they are made).
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _to_float32(stored: np.ndarray) -> np.ndarray:
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored
