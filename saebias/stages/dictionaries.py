"""The trained dictionaries of a run, behind the quality gate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.sae.module import SparseAutoencoder


@dataclass(frozen=True)
class Dictionary:
    """One trained dictionary with the identity that its latents are known by."""

    sae_id: str
    hook: HookPoint
    sae: SparseAutoencoder
    role: str = "main"


def main_dictionaries(ctx: StageContext) -> list[Dictionary]:
    """The dictionaries that are analysed and steered, one per hook point, by layer; see `dictionaries_of_role`."""
    return dictionaries_of_role(ctx, ("main",))


def dictionaries_of_role(ctx: StageContext, roles: Collection[str]) -> list[Dictionary]:
    """The dictionaries of these roles (`main`, `seed`, `sweep`, `control`), by layer; raises InputError when a saved one is not what it should be."""
    from saebias.identifiers import HookPoint
    from saebias.sae.formats import load_sae

    folder = ctx.parent_folder("train")
    found = []
    for row in sorted(ctx.table("saes").to_pylist(), key=lambda row: (row["layer"], row["site"], row["sae_id"])):
        if row["role"] not in roles:
            continue
        sae, meta = load_sae(folder / row["path"])
        if meta["sae_id"] != row["sae_id"]:
            raise InputError(f"{folder / row['path']}: holds dictionary {meta['sae_id']}, not {row['sae_id']}; run `saebias train --force`")
        found.append(Dictionary(row["sae_id"], HookPoint(row["layer"], row["site"]), sae.requires_grad_(False), row["role"]))
    return found


def refuse_bad_dictionaries(ctx: StageContext, reasons: dict[str, list[str]]) -> None:
    """Raise InputError naming every dictionary that failed the quality gate, unless train.allow_failed_gate says to go on (then warn)."""
    failed = {sae_id: why for sae_id, why in reasons.items() if why}
    if not failed:
        return
    sentences = "; ".join(f"{sae_id.rpartition('/')[2]}: {', '.join(why)}" for sae_id, why in failed.items())
    if not ctx.cfg.train.allow_failed_gate:
        raise InputError(f"{len(failed)} dictionaries failed the quality gate ({sentences}); train longer or wider, or set train.allow_failed_gate=true")
    ctx.reporter.warn(f"dictionaries that failed the quality gate are analysed all the same: {sentences}")
