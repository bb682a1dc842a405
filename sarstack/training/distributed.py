"""Sums over the processes that train one network together.

Each process computes a shard of every batch. Losses, gradients and scores are summed over all
processes, so that all take the same step as one process with the whole batch would. Starting
the processes is in :mod:`sarstack.workflows.learning.ranks`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProcessGroup:
    """A group of processes, as seen by one of them.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and number of processes.
    all_reduce : callable, optional
        Replaces a flat tensor by its sum over all processes; None for a single process.
    """

    rank: int = 0
    size: int = 1
    all_reduce: Callable[["Tensor"], None] | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files (rank 0)."""
        return self.rank == 0

    @property
    def shard(self) -> slice:
        """The elements of a sequence known to all processes that this process computes."""
        return slice(self.rank, None, self.size)

    def sum_in_place(self, tensors: Sequence["Tensor"]) -> None:
        """Replace tensors of one dtype by their sums over all processes, in one transfer."""
        import torch

        if self.all_reduce is None:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def broadcast(self, decision: bool) -> bool:  # noqa: FBT001 - a value, not a switch
        """Return the decision of rank 0.

        Other processors may round a score differently and would decide otherwise.
        """
        import torch

        on_rank_0 = torch.tensor([float(decision and self.is_main)])
        self.sum_in_place([on_rank_0])
        return bool(on_rank_0)


SINGLE_PROCESS = ProcessGroup()
