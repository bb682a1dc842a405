"""A network of several hosts on one machine: Linux network namespaces that are joined by a bridge.

Each host has its own interfaces and addresses, so a process of one host reaches another only
through its address. No name server answers. Each program has its own view of the disk: a folder
can be replaced for one of them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SUBNET = "10.213.77"


class Network:
    """Hosts with the addresses 10.213.77.1 and following; each has one link to a switch.

    Parameters
    ----------
    n_hosts : int

    Raises
    ------
    OSError
        If this machine does not allow network namespaces.
    """

    def __init__(self, n_hosts: int) -> None:
        self._prefix = f"sar{os.getpid()}"
        self._processes: list[subprocess.Popen[Any]] = []
        self._spaces: list[str] = []
        try:
            self._switch = self._add_space("switch")
            self._in_space(self._switch, "ip", "link", "add", "bridge", "type", "bridge")
            self._in_space(self._switch, "ip", "link", "set", "bridge", "up")
            self._in_space(self._switch, "ip", "addr", "add", f"{SUBNET}.254/24", "dev", "bridge")
            for host in range(1, n_hosts + 1):
                self._add_host(host)
        except OSError:
            self.close()
            raise

    def _add_space(self, name: str) -> str:
        space = f"{self._prefix}-{name}"
        _run("ip", "netns", "add", space)
        self._spaces.append(space)
        return space

    def _add_host(self, host: int) -> None:
        space, port = self._add_space(str(host)), f"port{host}"
        _run("ip", "link", "add", "eth7", "netns", space, "type", "veth",
             "peer", "name", port, "netns", self._switch)  # fmt: skip
        self._in_space(self._switch, "ip", "link", "set", port, "master", "bridge", "up")
        self._in_space(space, "ip", "addr", "add", f"{self.address(host)}/24", "dev", "eth7")
        self._in_space(space, "ip", "link", "set", "eth7", "up")
        self._in_space(space, "ip", "link", "set", "lo", "up")
        # Requests to a name server go to the switch, which drops them.
        self._in_space(space, "ip", "route", "add", "default", "via", f"{SUBNET}.254")

    def address(self, host: int) -> str:
        """Return the IP address of a host, which is numbered from 1."""
        return f"{SUBNET}.{host}"

    def start(self, host: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host; it is killed when the network is closed."""
        prefix = ["ip", "netns", "exec", f"{self._prefix}-{host}"]
        process = subprocess.Popen([*prefix, *command], **options)
        self._processes.append(process)
        return process

    def run(self, host: int, command: Sequence[str], **options: Any) -> Any:
        """Run a program on a host until it ends, and return what it printed."""
        prefix = ["ip", "netns", "exec", f"{self._prefix}-{host}"]
        return subprocess.run(
            [*prefix, *command], capture_output=True, text=True, check=False, **options
        )

    def cut(self, host: int) -> None:
        """Cut the link of a host: packets are lost, and no connection is closed."""
        self._in_space(self._switch, "ip", "link", "set", f"port{host}", "down")

    def repair(self, host: int) -> None:
        """Undo `cut`."""
        self._in_space(self._switch, "ip", "link", "set", f"port{host}", "up")

    def stop(self, process: subprocess.Popen[Any]) -> None:
        """Kill a program that `start` returned."""
        process.kill()
        process.wait()
        self._processes.remove(process)

    def replace(self, process: subprocess.Popen[Any], path: Path, other: Path) -> None:
        """Let one program see a file or folder under the path of another, until `restore`."""
        _run("nsenter", "-t", str(process.pid), "-m", "mount", "--bind", str(other), str(path))

    def restore(self, process: subprocess.Popen[Any], path: Path) -> None:
        """Undo `replace`."""
        _run("nsenter", "-t", str(process.pid), "-m", "umount", str(path))

    def close(self) -> None:
        """Kill all programs, and remove the hosts."""
        for process in [*self._processes]:
            self.stop(process)
        for space in self._spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)

    def _in_space(self, space: str, *command: str) -> None:
        _run("ip", "netns", "exec", space, *command)


def _run(*command: str) -> None:
    """Run a program; raise OSError with what it printed if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def find_obstacle() -> str:
    """Return why this machine cannot have several hosts, empty if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            return f"the program `{program}` ({package}) is not installed"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    try:
        Network(1).close()
    except OSError as failure:
        return f"network namespaces cannot be made: {failure}"
    return ""


def python_program(module: str, *arguments: str) -> list[str]:
    """Return a command that runs a Python module of this environment."""
    return [sys.executable, "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a program that imports sarstack of this checkout."""
    root = str(Path(__file__).parents[1])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"} | more
