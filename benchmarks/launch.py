"""Run one command and tell its cost; started by path, for it must stay thin.

The largest memory that the system tells of a process is never below that of the process it
was forked from: a benchmark with torch in it would find its own size in every command.
"""

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> int:
    """Print seconds, CPU seconds and peak bytes of a command and all it waited for, as JSON."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    cost = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        # The largest of the processes, not their sum.
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    process.returncode = os.waitstatus_to_exitcode(status)
    sys.stdout.write(json.dumps(cost))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
