"""What torch can do on this machine, also told by another process that has imported it.

To import torch takes a second. A process that only plans the work need not do it.
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import NamedTuple


class Abilities(NamedTuple):
    """What torch can do.

    Attributes
    ----------
    built_for_cuda : bool
        Whether its libraries are those for GPUs of NVIDIA.
    has_cuda : bool
        Whether it finds such a GPU.
    bfloat16_on_cpu : bool
        Whether the processor computes in bfloat16 in hardware.
    """

    built_for_cuda: bool
    has_cuda: bool
    bfloat16_on_cpu: bool


_elsewhere: Callable[[], Abilities] | None = None


def find_abilities() -> Abilities:
    """Return what torch can do; without torch in this process, another one may tell it."""
    if _elsewhere is not None and "torch" not in sys.modules:
        return _elsewhere()
    return look_at_torch()


def ask_elsewhere(ask: Callable[[], Abilities]) -> None:
    """Let `ask` find the abilities, once, as long as this process has not imported torch."""
    global _elsewhere
    _elsewhere = cache(ask)


def look_at_torch() -> Abilities:
    """Return what torch can do in this process."""
    import torch

    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # A version of torch without such a function counts as no: bool() is False.
    bfloat16_on_cpu = any(getattr(torch.cpu, name, bool)() for name in names)
    return Abilities(torch.version.cuda is not None, torch.cuda.is_available(), bfloat16_on_cpu)
