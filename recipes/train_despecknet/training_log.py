"""The lines that a training prints."""

import time

from sarstack.training.loop import Progress


def show(progress: Progress) -> None:
    """Print a line at each validation and every 50 steps."""
    if progress.scores is not None or progress.step % 50 == 0:
        validation = (
            f" validation {progress.scores['validation_loss']:.4f}" if progress.scores else ""
        )
        now = time.strftime("%H:%M:%S")
        print(
            f"{now} step {progress.step}/{progress.steps} loss {progress.loss:.4f}{validation}"
            f" {progress.eta_s / 60:.1f} min left",
            flush=True,
        )
