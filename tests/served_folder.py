"""A web server of a folder that answers requests for ranges of bytes, as object storage does.

It is a process of its own: rasterio keeps the interpreter locked while it opens a URL.
"""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/denied/"):
            self.send_error(403)
            return
        if self.path.startswith("/whole/"):  # a server that does not know ranges
            self.path = self.path.removeprefix("/whole")
            super().do_GET()
            return
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        if not wanted or not file.is_file():
            super().do_GET()
            return
        content = file.read_bytes()
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Last-Modified", self.date_time_string(file.stat().st_mtime))
        self.end_headers()
        self.wfile.write(self.damage(content[first : last + 1]))

    def damage(self, part: bytes) -> bytes:
        return part

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class _UnreliableHandler(_Handler):
    """Answers 503 to some requests, and breaks the connection in the middle of others."""

    numbers = itertools.count()

    def do_GET(self) -> None:
        self.number = next(self.numbers) % 7
        if self.number == 2:
            self.send_error(503)
        else:
            super().do_GET()

    def damage(self, part: bytes) -> bytes:
        if self.number != 5 or len(part) < 2:
            return part
        self.close_connection = True
        return part[: len(part) // 2]


@contextmanager
def serve_folder(folder: Path, *, is_reliable: bool = True) -> Iterator[str]:
    """Serve a folder on this machine; yield the URL of the folder."""
    command = [sys.executable, __file__, str(folder), "" if is_reliable else "unreliable"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


if __name__ == "__main__":
    kind = _UnreliableHandler if sys.argv[2] else _Handler
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=sys.argv[1])) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
