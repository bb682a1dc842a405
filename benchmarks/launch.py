"""Run one command as a child process and print its cost as JSON.

This file is run by its path, with the standard library only. The peak memory that the system
reports for a process is at least the memory of the process that forked it. If the benchmark,
which has loaded torch, started the command itself, it would measure its own size.
"""

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> int:
    """Print seconds, CPU seconds and peak bytes of a command; return its exit code.

    CPU seconds and peak bytes include all processes that the command started and waited for.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    cost = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        # Of the largest process, not the sum. macOS reports bytes, Linux KiB.
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    process.returncode = os.waitstatus_to_exitcode(status)
    sys.stdout.write(json.dumps(cost))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
