"""How many processes, threads and GPUs a run uses on this machine.

The numbers follow from the cores, the GPUs and the settings alone, so that a plan can be made, and
tested, on another machine than the one that computes.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOCAL = "local"
"""Setting `cluster`: a Dask cluster of processes on this machine."""

GPU_THREADS = 4
"""Smallest number of threads of a process with a GPU: some read and write while others use it."""

_CGROUP_LIMITS = ("memory.max", "memory.high", "memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """What a machine computes with.

    Attributes
    ----------
    n_cores : int
    gpus : tuple of str
        CUDA devices that the work uses.
    """

    n_cores: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Processes and threads of a run.

    Attributes
    ----------
    n_processes : int
        Processes that compute tiles.
    n_threads : int
        Threads of each process.
    gpus : tuple of str
        CUDA devices in use; process n has device ``n % len(gpus)``. Empty: cores compute.
    n_cores : int
        Cores that all processes share.
    in_processes : bool
        Whether worker processes compute, or threads of the process that planned the run.
    """

    n_processes: int
    n_threads: int
    gpus: tuple[str, ...]
    n_cores: int
    in_processes: bool

    @property
    def n_tasks(self) -> int:
        """Number of tasks that run at the same time."""
        return self.n_processes * self.n_threads

    @property
    def n_cells_in_memory(self) -> int:
        """Number of cells that one process holds in the memory of the host; those of a GPU: none.

        A thread that waits for a core holds its tile, but no layer of a network.
        """
        return 0 if self.gpus else min(self.n_threads, self.n_cores)

    @property
    def n_computing(self) -> int:
        """Number of tiles that are computed at full speed at the same time: one a GPU or core."""
        if self.gpus:
            return min(len(self.gpus), self.n_processes)
        return min(self.n_tasks, self.n_cores)

    def describe(self) -> str:
        """Return the layout as text, for instance ``2 workers of 8 threads, 2 GPUs``."""
        processes = f"{self.n_threads} threads in one process"
        if self.in_processes:
            threads = f" of {self.n_threads} threads" if self.n_threads > 1 else ""
            processes = f"{self.n_processes} worker{'s'[: self.n_processes > 1]}{threads}"
        n_gpus = len(self.gpus)
        return processes + (f", {n_gpus} GPU{'s'[: n_gpus > 1]}" if n_gpus else "")


def plan_layout(n_workers: int | None, machine: Machine, *, in_processes: bool) -> Layout:
    """Choose the processes and threads of a run.

    Parameters
    ----------
    n_workers : int, optional
        Processes if `in_processes`, else threads. Default: one process a GPU, else one process
        or thread a core.
    machine : Machine
    in_processes : bool
        Whether processes compute (a local cluster), or threads of one process.

    Returns
    -------
    Layout
        Threads of one process use the first GPU only. Processes on cores have one thread; those
        on GPUs share the cores as threads, at least `GPU_THREADS` each.
    """
    cores, gpus = machine.n_cores, machine.gpus
    if not in_processes:
        return Layout(1, n_workers or cores, gpus[:1], cores, in_processes=False)
    n_processes = n_workers or len(gpus) or cores
    n_threads = max(GPU_THREADS, cores // n_processes) if gpus else 1
    return Layout(n_processes, n_threads, gpus[:n_processes], cores, in_processes=True)


def find_machine(*, on_gpu: bool) -> Machine:
    """Return the cores of this machine, and its GPUs if the work uses them."""
    return Machine(n_cores(), tuple(visible_gpus()) if on_gpu else ())


def n_cores() -> int:
    """Return the number of cores that this process may use (CPU affinity counts)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """List the CUDA devices that this process may use, without starting CUDA.

    They are read from the device files of the driver, not from torch: the process that starts GPU
    workers must not open a CUDA context.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return sorted(p.name.removeprefix("nvidia") for p in Path("/dev").glob("nvidia[0-9]*"))
    devices = [device.strip() for device in listed.split(",")]
    # As CUDA reads it: an entry that names no device (-1 is usual) ends the list.
    n_named = next((i for i, name in enumerate(devices) if name in ("", "-1")), len(devices))
    return devices[:n_named]


def memory_limit_bytes(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that this process may use: that of the machine, or of its container.

    `distributed.system` tells the same, but importing it takes a third of a second, which most
    runs would pay for this number alone.

    Parameters
    ----------
    cgroups : Path
        Folder in which Linux tells the limits of a container.
    """
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for name in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is no such limit; "max" is none
            limits.append(int((cgroups / name).read_text()))
    return min(limit for limit in limits if limit > 0)
