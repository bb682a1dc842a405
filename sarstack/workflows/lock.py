"""Lock files: one run for each output folder, also on network disks and with several hosts.

A lock file is locked by the operating system (flock), which ends with the process. Some network
disks have no such locks, or not between hosts. So the file also says which process holds it. No
time is compared, so a clock that goes back changes nothing.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sarstack.errors import UsageError
from sarstack.workflows.disk import PROBLEMS as DISK_PROBLEMS
from sarstack.workflows.progress import now_utc

LOGGER = logging.getLogger("sarstack")
LOCK_FILE = ".sarstack-lock"
EMPTY_S = 0.5
"""Another process may have created the lock file just now: wait this long for its content."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes
    ----------
    host, machine : str
        Name of its host, and the identifier of the installed system (empty if unknown).
    boot : str
        Identifier of the time since the machine was started (empty if unknown).
    process : int
        Number of the process.
    since : str
        When it took the lock; shown to the user, never compared.
    """

    host: str
    machine: str
    boot: str
    process: int
    since: str

    @classmethod
    def this_process(cls) -> "Holder":
        """Describe this process."""
        machine, boot = _read("/etc/machine-id"), _read("/proc/sys/kernel/random/boot_id")
        return cls(socket.gethostname(), machine, boot, os.getpid(), now_utc())

    def has_ended(self, me: "Holder", *, flocked: bool) -> bool:
        """Return whether this process certainly no longer runs.

        `flocked` says that this machine gave us the lock of the operating system, which a running
        process of this machine would hold. Of other hosts nothing is known.
        """
        if (self.host, self.machine) != (me.host, me.machine):
            return False
        if self.boot != me.boot:
            return bool(self.machine)  # without identifiers it can be a namesake
        return flocked or not _is_running(self.process)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _is_running(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against a second run; raises as :func:`claim`."""
    with claim(folder / LOCK_FILE, folder):
        yield


@contextmanager
def claim(lock: Path, target: Path) -> Iterator[None]:
    """Hold a lock file, and delete it at the end.

    Parameters
    ----------
    lock : Path
        The lock file.
    target : Path
        What it protects, for the message.

    Raises
    ------
    UsageError
        If another run holds it, or may hold it: one of another host.
    """
    try:
        handle = _take(lock, target)
    except OSError as failure:
        if isinstance(failure, UsageError) or failure.errno in DISK_PROBLEMS:
            raise
        raise UsageError(
            f"{target} cannot be locked: {failure.strerror}",
            where=str(lock),
            do="remove what is in the way, or choose another place with -o",
        ) from failure
    try:
        yield
    finally:
        # If somebody deleted our file, the one that is there now is not ours.
        if _is_at(handle, lock):
            with suppress(OSError):
                lock.unlink()
        os.close(handle)


@contextmanager
def claim_on_this_host(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes of this host, without a lock file.

    For a process of a cluster: if its host is lost, it leaves nothing behind.

    Raises
    ------
    UsageError
        If another process has locked the folder.
    """
    if os.name == "nt":  # folders cannot be opened there
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            _flock(handle)
        except BlockingIOError:
            raise UsageError(
                f"another training writes into {folder}",
                expected="one training for each folder",
                do="wait until it ends, or choose another place with -o",
            ) from None
        yield
    finally:
        os.close(handle)


def _take(lock: Path, target: Path) -> int:
    """Open the lock file and make it ours; return its handle."""
    me = Holder.this_process()
    while True:
        created, handle = _open(lock)
        try:
            flocked = _flock(handle)
            if not _is_at(handle, lock):  # its holder has deleted it meanwhile
                os.close(handle)
                continue
            if not created:
                _refuse_running(handle, lock, target, me, flocked=flocked)
            text = json.dumps(asdict(me)).encode()
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, text)
            os.fsync(handle)
        except BlockingIOError:
            error = _held_error(target, lock, _read_holder(handle))
            os.close(handle)
            raise error from None
        except BaseException:
            if created:
                lock.unlink(missing_ok=True)
            os.close(handle)
            raise
        return handle


def _open(lock: Path) -> tuple[bool, int]:
    """Open the file, and say whether it is new."""
    while True:
        try:
            return True, os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            with suppress(FileNotFoundError):  # its holder has deleted it meanwhile
                return False, os.open(lock, os.O_RDWR)


def _flock(handle: int) -> bool:
    """Lock an open file; return False if its disk, or the system, has no locks.

    Raises
    ------
    BlockingIOError
        If another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as failure:
        LOGGER.debug("the disk has no locks: %s", failure)
        return False
    return True


def _is_at(handle: int, lock: Path) -> bool:
    """Return whether an open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(handle), lock.stat())
    except FileNotFoundError:
        return False


def _refuse_running(handle: int, lock: Path, target: Path, me: Holder, *, flocked: bool) -> None:
    """Raise if the run that wrote a lock file runs, or may run."""
    if not _content(handle):
        time.sleep(EMPTY_S)
    if not _content(handle) and flocked:
        return  # it was killed before it wrote its name
    holder = _read_holder(handle)
    if holder is None or not holder.has_ended(me, flocked=flocked):
        raise _held_error(target, lock, holder)
    LOGGER.info("a run of %s ended without removing its lock", holder.since)


def _content(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 10_000).strip(b"\0 \n")


def _read_holder(handle: int) -> Holder | None:
    """Read the holder through the open file: closing a second one would end some locks."""
    try:
        return Holder(**json.loads(_content(handle)))
    except (ValueError, TypeError):
        return None


def _held_error(target: Path, lock: Path, holder: Holder | None) -> UsageError:
    known = f" (process {holder.process} on {holder.host}, since {holder.since})" if holder else ""
    return UsageError(
        f"another run writes into {target}{known}",
        expected="one run for each output folder",
        where=str(lock),
        do="wait until it ends, or choose another place with -o; if it no longer runs, delete "
        f"{lock}",
    )
