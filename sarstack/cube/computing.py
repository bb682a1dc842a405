"""Compute lazy results with a bar that shows the progress, as a run over files has it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dask.base import get_scheduler
from dask.callbacks import Callback

from sarstack.workflows.progress import Progress, show_progress

_WHAT = "despeckling"


def compute_with_progress(obj: Any) -> Any:
    """Compute a lazy xarray object.

    Parameters
    ----------
    obj : Dataset or DataArray

    Returns
    -------
    Dataset or DataArray
        In memory. With a Dask client, its workers compute.

    Notes
    -----
    Without a terminal and outside of notebooks nothing is printed.
    """
    if (client := _find_client()) is not None:
        return _compute_on(client, obj)
    with _count_tasks():
        return obj.compute()


def _find_client() -> Any:
    """Return the Dask client that would compute; None without one, or with another scheduler."""
    client: Any = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "persist") and not client.asynchronous else None


def _compute_on(client: Any, obj: Any) -> Any:
    from distributed import as_completed, futures_of

    kept = client.persist(obj)
    chunks = futures_of(kept)
    with show_progress(_WHAT, len(chunks), "chunks", 1) as progress:
        for _ in as_completed(chunks):
            progress.advance(1)
    return kept.compute()


@contextmanager
def _count_tasks() -> Iterator[None]:
    """Show how many tasks of the local scheduler of Dask are done."""
    shown: list[Progress] = []
    with ExitStack() as stack:

        def start(_graph: Any, state: dict[str, Any]) -> None:
            n_tasks = sum(len(state[kind]) for kind in ("ready", "waiting"))
            if not shown:
                shown.append(stack.enter_context(show_progress(_WHAT, n_tasks, "tasks", 1)))

        def advance(*_of_task: Any) -> None:
            shown[0].advance(1)

        with Callback(start_state=start, posttask=advance):
            yield
