"""Imported by the fork server of the command line: the libraries of its workers.

A worker is a fork of this process, so it has these libraries at once, and shares their memory. To
import this module changes the process, which does nothing else than fork.
"""

import ctypes
import gc
import os
import signal
from contextlib import suppress
from importlib import import_module

from sarstack.cluster.fork_server import MODULES
from sarstack.networks.memory_pages import keep_freed_memory

PR_SET_PDEATHSIG = 1  # from prctl.h of Linux

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
prctl = ctypes.CDLL(None).prctl
prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for the imports if the command has ended
keep_freed_memory()  # it must precede the first allocation of torch
gc.disable()  # the objects of libraries stay, so there is nothing to collect
for module in (*os.environ.pop(MODULES, "").split(), "distributed.nanny", "rasterio"):
    with suppress(Exception):  # if it is broken, the task that needs it fails, and says so
        import_module(module)
gc.freeze()
gc.enable()
prctl(PR_SET_PDEATHSIG, 0)
