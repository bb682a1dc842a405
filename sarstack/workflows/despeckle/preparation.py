"""Start what a run on a local cluster needs, before it is planned."""

from contextlib import suppress

from sarstack.cluster.fork_server import call_in_fork, can_fork, start_fork_server
from sarstack.networks.torch_abilities import Abilities, ask_elsewhere, look_at_torch

_NETWORKS = ("auto", "despecknet", "merlin", "mulog-cnn", "sar-cnn", "speckle2void")


def prepare_workers(method: str) -> None:
    """Let the process from which workers are forked import their libraries meanwhile.

    Parameters
    ----------
    method : str
        Setting `method`. Whether it needs torch is guessed from its name; an error costs time only.
    """
    if not can_fork():
        return
    tasks = "sarstack.workflows.despeckle.tasks"
    if method.startswith(_NETWORKS) or method.endswith(".safetensors"):
        start_fork_server("torch", tasks)
        ask_elsewhere(_look_at_torch)
    else:
        start_fork_server(tasks)


def _look_at_torch() -> Abilities:
    """Let a fork look at torch; import Dask here while the fork server imports torch."""
    with suppress(ImportError):  # without the dashboard, Dask works
        import distributed.dashboard.scheduler  # noqa: F401
    return call_in_fork(look_at_torch)
