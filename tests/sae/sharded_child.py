"""What each of several processes does that share a dictionary: started by test_sharded with `python -m torch.distributed.run`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from saebias.sae.module import SaeSpec
from saebias.sae.peers import ALONE, Peers, present_peers
from saebias.sae.trainer import SaeTrainer, TrainConfig

from .conftest import planted_rows

STEPS, STOP = 24, 11
CASES = {
    "topk": (SaeSpec(24, 96, 5, seed=3), TrainConfig(kernels="torch", dead_after_tokens=256)),
    "topk, more dead than AuxK takes": (SaeSpec(24, 96, 5, seed=3), TrainConfig(kernels="torch", dead_after_tokens=256, aux_k=3)),
    "topk, often clipped": (SaeSpec(24, 96, 5, seed=3), TrainConfig(kernels="torch", dead_after_tokens=256, clip_factor=0.9)),
    "topk, compiled": (SaeSpec(24, 96, 5, seed=3), TrainConfig(dead_after_tokens=256)),
    "batchtopk": (SaeSpec(24, 96, 5, "batchtopk", seed=4), TrainConfig(kernels="torch", dead_after_tokens=256)),
    "batchtopk, compiled": (SaeSpec(24, 96, 5, "batchtopk", seed=4), TrainConfig(dead_after_tokens=256)),
    "matryoshka": (SaeSpec(24, 96, 5, "matryoshka", seed=5), TrainConfig(kernels="torch", dead_after_tokens=256)),
    "frozen decoder": (SaeSpec(24, 96, 5, seed=6, frozen_decoder=True), TrainConfig(kernels="torch", dead_after_tokens=256)),
    "more active latents than a process has": (SaeSpec(24, 8, 6, seed=7), TrainConfig(kernels="torch", dead_after_tokens=256)),
}


def batches() -> list[torch.Tensor]:
    """The rows of a training, among them one that is too far from the mean to be learned from."""
    x_ND = torch.from_numpy(planted_rows(STEPS * 128, 24, 40, 3, seed=11).x_ND)
    x_ND[1000] *= 100
    return list(x_ND.split(128))


def trained(name: str, peers: Peers, state: dict[str, torch.Tensor] | None = None, first: int = 0, last: int = STEPS) -> SaeTrainer:
    """The training `name` from batch `first` up to batch `last`, taken up from `state` where there is one."""
    spec, config = CASES[name]
    rows = batches()
    trainer = SaeTrainer(spec, config, torch.cat(rows), STEPS, peers)
    if state is not None:
        trainer.restore(state)
    for batch_BD in rows[first:last]:
        trainer.step(batch_BD)
    return trainer


def kept(trainer: SaeTrainer) -> dict[str, torch.Tensor]:
    """The finished dictionary with the state it came from, in the leading process; empty elsewhere."""
    state, sae = trainer.state(), trainer.finished()
    return {} if sae is None else state | {f"sae.{name}": tensor.detach().contiguous() for name, tensor in sae.state_dict().items()}


def main(folder: Path) -> None:
    """Train each case together and broken off half-way, and take up what one process alone broke off."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    peers = present_peers()
    for name in CASES:
        found = {"whole": kept(trained(name, peers)), "half": kept(trained(name, peers, last=STOP))}
        alone = trained(name, ALONE, last=STOP).state()
        found["resumed"] = kept(trained(name, peers, alone, first=STOP))
        if peers.leads:
            for part, tensors in found.items():
                save_file(tensors, folder / f"{name}.{part}.safetensors")
    dist.destroy_process_group()


def read(folder: Path, name: str, part: str) -> dict[str, torch.Tensor]:
    """What the leading process saved."""
    return load_file(folder / f"{name}.{part}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
