"""Processes that train one network together, seen from one of them.

Each rank computes its share of every batch. What is added up over all ranks (pixels counted,
gradients, scores) is what one process would have found, so all ranks take the same step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """One of several processes.

    Attributes
    ----------
    rank, n : int
        Number of this process, from 0, and how many there are.
    all_reduce : callable, optional
        Replaces a flat tensor by its sum over all ranks; None for a process alone.
    """

    rank: int = 0
    n: int = 1
    all_reduce: Callable[["Tensor"], None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """What this rank takes of a sequence that all ranks know."""
        return slice(self.rank, None, self.n)

    def add(self, tensors: Sequence["Tensor"]) -> None:
        """Replace tensors of one dtype by their sums over all ranks, in one transfer."""
        import torch

        if self.all_reduce is None:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def agree(self, verdict: bool) -> bool:  # noqa: FBT001 - a value, not a switch
        """Return the verdict of rank 0: another processor may round to another one."""
        import torch

        said = torch.tensor([float(verdict and self.leads)])
        self.add([said])
        return bool(said)


ALONE = Ranks()
