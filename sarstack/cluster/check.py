"""Check before the work that every worker has what the tasks need.

The same sarstack, the same version of every input and model, and the same output folder. A worker
that differs would give other pixels, or lose them, without an error.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from sarstack import __version__
from sarstack.cluster.workers import Workers
from sarstack.despecklers.source import MethodSource
from sarstack.errors import ClusterError, MethodError
from sarstack.readers.raster import Raster
from sarstack.readers.stack import ImageStack
from sarstack.readers.versions import FileVersion, hash_content, read_version

TOKEN = ".sarstack-token"
TOKEN_WAIT_S = 3.0
"""Some network disks show a new file late."""
# Headers are read at a time: a network disk answers many requests as fast as one.
READING_THREADS = 16


@dataclass(frozen=True)
class Needs:
    """What a worker must have; only paths, numbers and short texts.

    Attributes
    ----------
    version : str
        Of sarstack.
    source : MethodSource or None
        Source of a method from outside the package.
    token_path, token : str
        A file in the output folder, and what is in it.
    contents : dict of str to str
        Files that a worker may have installed itself, such as model files, with their hashes.
    inputs : dict of str to FileVersion
        Images and stores.
    """

    version: str
    source: MethodSource | None
    token_path: str
    token: str
    contents: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, FileVersion] = field(default_factory=dict)


def check_workers(
    workers: Workers,
    stack: ImageStack,
    folder: Path,
    *,
    stores: Sequence[str] = (),
    models: Sequence[str] = (),
    source: MethodSource | None = None,
) -> None:
    """Check that every worker sees the same files, and writes into the same folder.

    Parameters
    ----------
    workers : Workers
        Threads of this process need no check.
    stack : ImageStack
        Its files are compared by size, time and header with those that were indexed.
    folder : Path
        The tasks write into it. A small file is written, which every worker must see.
    stores : sequence of str
        Further inputs, for instance labels.
    models : sequence of str
        Model files; they are compared by content.
    source : MethodSource, optional
        Source of a method from outside the package; every worker must be able to load it.

    Raises
    ------
    ClusterError
        If a worker has another version of sarstack or of a file, or does not see a path.

    Notes
    -----
    This is one call to each worker, all at the same time.
    """
    if workers.client is None:
        return
    versions = {file: read_version(file) for file in stores} | _list_versions(stack)
    inputs = {file: version for file, version in versions.items() if version is not None}
    token_file, token = folder.absolute() / TOKEN, uuid4().hex
    needs = Needs(
        __version__, source, str(token_file), token,
        {file: hash_content(file) for file in models}, inputs,
    )  # fmt: skip
    token_file.write_text(token, encoding="ascii")
    try:
        # A worker that fails to answer is one of those that cannot be used.
        problems = workers.client.run(find_problem, needs, on_error="return")
    finally:
        token_file.unlink(missing_ok=True)
    wrong = [f"{worker}: {_first_line(text)}" for worker, text in problems.items() if text]
    if wrong:
        raise ClusterError(
            f"{len(wrong)} of {len(problems)} workers cannot be used",
            expected=f"sarstack {__version__} on every worker, and the same files as here under "
            "the same paths",
            where=wrong,
            do="start the workers in the same environment, with the same folders mounted",
        )


def _list_versions(stack: ImageStack) -> dict[str, FileVersion | None]:
    rasters = (raster for own in stack.rasters.values() for raster in own)
    own = [raster.versions for raster in rasters if isinstance(raster, Raster)]
    return {path: version for versions in own for path, version in versions.items()}


def _first_line(problem: Any) -> str:
    """Return a problem, or the exception of a worker, in one line."""
    if isinstance(problem, BaseException):
        return (str(problem) or type(problem).__name__).splitlines()[0]
    return str(problem)


async def find_problem(needs: Needs) -> str:
    """Return what the worker lacks on which this is called, empty if nothing.

    Not in the event loop of the worker, so that it answers the scheduler meanwhile.
    """
    return await asyncio.to_thread(find_difference, needs)


def find_difference(needs: Needs) -> str:
    """Return the first need that this process lacks, empty if it has all."""
    if needs.version != __version__:
        return f"has sarstack {__version__}"
    if needs.source is not None:
        try:
            needs.source.load_class()
        except (ImportError, MethodError) as failure:
            return f"cannot load {needs.source.label}: {failure}".splitlines()[0]
    return _find_wrong_folder(needs) or _find_wrong_model(needs) or _find_wrong_input(needs)


def _find_wrong_folder(needs: Needs) -> str:
    token_file, deadline = Path(needs.token_path), time.monotonic() + TOKEN_WAIT_S
    while True:
        try:
            if token_file.read_text(encoding="ascii") == needs.token:
                return ""
        except (OSError, UnicodeDecodeError):
            pass
        if time.monotonic() > deadline:
            break
        time.sleep(TOKEN_WAIT_S / 10)
    folder = token_file.parent
    if not folder.exists():
        return f"does not see {folder}"
    return f"sees another folder under the name {folder}: a file that was just written is not in it"


def _find_wrong_model(needs: Needs) -> str:
    for path, content in needs.contents.items():
        if not Path(path).exists():
            return f"does not see {path}"
        if hash_content(path) != content:
            return f"has another model under the name {path}"
    return ""


def _find_wrong_input(needs: Needs) -> str:
    with ThreadPoolExecutor(READING_THREADS) as threads:
        found = list(threads.map(read_version, needs.inputs))
    pairs = zip(needs.inputs.items(), found, strict=True)
    wrong = [(path, mine, own) for (path, mine), own in pairs if own != mine]
    if not wrong:
        return ""
    path, expected, own = wrong[0]
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    if own is None:
        return f"does not see {path}{more}"
    return f"sees another version of {path}{more}: {own} in place of {expected}"
