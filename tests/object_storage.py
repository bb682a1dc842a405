"""An S3-compatible server on this machine (moto), as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.core import url_to_fs

BUCKET = "archive"
_SERVER = """
import logging, sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = DomainDispatcherApplication(create_backend_app)
requests = open(sys.argv[1], "a", buffering=1)
def count(environ, respond):
    print(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE", "-"),
          file=requests)
    return app(environ, respond)
server = make_server("127.0.0.1", 0, count, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Storage:
    """A running server: its address, and the requests that it got."""

    def __init__(self, address: str, log: str) -> None:
        self.address, self.log = address, log

    def requests(self) -> list[list[str]]:
        """Return method, path and range of all requests so far."""
        lines = Path(self.log).read_text(encoding="utf-8").splitlines()
        return [line.split() for line in lines]


@contextmanager
def serve_storage(log: str) -> Iterator[Storage]:
    """Start a server with an empty bucket; set the variables by which programs find it."""
    command = [sys.executable, "-c", _SERVER, log]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", address)
                patch.setenv("AWS_ACCESS_KEY_ID", "testing")
                patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
                patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
                patch.setenv("AWS_CONFIG_FILE", "none")
                patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
                system, _ = url_to_fs("s3://archive", skip_instance_cache=True)
                # Cached file systems would go to the server of another test file.
                type(system).clear_instance_cache()
                system.mkdir(BUCKET)
                yield Storage(address, log)
        finally:
            server.terminate()
