"""Imported by the fork server of the command line: the libraries of its workers.

A worker is a fork of this process, so it has these libraries at once, and shares their memory. To
import this module changes the process, which does nothing else than fork.
"""

import ctypes
import gc
import os
import signal
from contextlib import suppress

from sarstack.cluster.fork_server import TORCH_WANTED
from sarstack.networks.memory_pages import keep_freed_memory

PR_SET_PDEATHSIG = 1  # from prctl.h of Linux

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
# If the command ends while libraries are imported, nobody waits for them.
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
keep_freed_memory()  # it must precede the first allocation of torch
gc.disable()  # the objects of libraries stay, so there is nothing to collect
# A library that is missing or broken is the problem of the task that needs it.
with suppress(Exception):
    if os.environ.pop(TORCH_WANTED, None):
        import torch  # noqa: F401
with suppress(Exception):
    import distributed.nanny  # noqa: F401
    import rasterio  # noqa: F401

    import sarstack.despecklers.window
    import sarstack.output.cog
    import sarstack.readers  # noqa: F401
gc.freeze()
gc.enable()
