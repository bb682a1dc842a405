"""Memory pages: free memory between objects that stay is returned to the system."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from pathlib import Path
from sarstack.networks.memory_pages import return_freed_memory

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

kept, blocks = [], []
for _ in range(1000):
    blocks.append(bytearray(b"1") * 100_000)
    kept.append(bytearray(b"1") * 5_000)
del blocks
full = resident_mb()
return_freed_memory()
print(full - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a function of glibc")
def test_free_memory_between_objects_that_stay_is_returned() -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 80, "of the 100 MB that are free"
