"""Names beside a labels store: its lock, and stores that are unfinished or were replaced."""

from pathlib import Path


def label_lock(output: Path) -> Path:
    """Return the lock file of a run that makes a store."""
    return output.with_name(f".{output.name}.lock")


def unfinished_store(output: Path) -> Path:
    """Return the store of a run that is not finished."""
    return output.with_name(f"{output.name}.unfinished")


def created_store(unfinished: Path) -> Path:
    """Return the store that becomes the unfinished one when it has all its arrays."""
    return unfinished.with_name(f".{unfinished.name}.new")


def replaced_store(output: Path) -> Path:
    """Return the name of a finished store while a new one takes its place."""
    return output.with_name(f".{output.name}.replaced")


def list_leftovers(output: Path) -> list[Path]:
    """Return what is of no use beside a finished store."""
    unfinished = unfinished_store(output)
    return [unfinished, created_store(unfinished), replaced_store(output)]
