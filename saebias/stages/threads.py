"""What torch may use of this machine: its threads, set once per process, and the device that was asked for."""

from __future__ import annotations

from saebias.config.schema import Config
from saebias.errors import ConfigError


def use_threads(cfg: Config) -> int:
    """Give torch the cores that this process may use (or runtime.threads of them) and return how many."""
    import torch

    from saebias.vlm.threads import usable_cores

    # More threads than free cores make every small operation wait for the slowest: ten times slower was seen.
    count = cfg.runtime.threads or usable_cores()
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return count


def usable_device(device: str) -> str:
    """`device` (cpu, cuda or cuda:N), if torch can compute on it here; raises ConfigError that says what there is otherwise."""
    import torch

    if not device.startswith("cuda"):
        return device
    if not torch.cuda.is_available():
        why = "this torch was built without CUDA" if torch.version.cuda is None else "no NVIDIA GPU or driver answers"
        raise ConfigError(f"runtime.device={device}: there is no GPU to compute on ({why}); set runtime.device=auto or cpu")
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise ConfigError(f"runtime.device={device}: this machine shows {count} GPUs, cuda:0 to cuda:{count - 1}; name one of them")
    return device
