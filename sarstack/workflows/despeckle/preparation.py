"""Start what a run on a local cluster needs, before it is planned."""

from sarstack.cluster.fork_server import call_in_fork, can_fork, start_fork_server
from sarstack.networks.torch_abilities import Abilities, ask_elsewhere, look_at_torch


def prepare_workers(method: str) -> None:
    """Let the process from which workers are forked import their libraries meanwhile.

    Parameters
    ----------
    method : str
        Setting `method`. Whether it needs torch is guessed from its name; an error costs time only.
    """
    if not can_fork():
        return
    with_torch = method.startswith(("auto", "despecknet")) or method.endswith(".safetensors")
    start_fork_server(with_torch=with_torch)
    if with_torch:
        ask_elsewhere(_look_at_torch)


def _look_at_torch() -> Abilities:
    """Let a fork look at torch; import Dask here while the fork server imports torch."""
    import distributed.dashboard.scheduler  # noqa: F401

    return call_in_fork(look_at_torch)
