"""Passwords and signatures in URLs are used, and stand nowhere in what is written or printed."""

import base64
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import yaml
from simulated_stack import LOOKS, reflectivity
from small_networks import save_small_network
from written_images import write_tif

from sarstack.errors import SarstackError, hide_secrets
from sarstack.readers.paths import file_name, public_path

USER, PASSWORD, SIGNATURE = "alice", "pa55w0rd", "5ecr3t/s1gnatur3=="
SECRETS = (PASSWORD, "5ecr3t", "s1gnatur3", base64.b64encode(b"alice:pa55w0rd").decode())
QUERY = "X-Amz-Date=20300101T000000Z&X-Amz-Signature=5ecr3t%2Fs1gnatur3%3D%3D"


@pytest.mark.parametrize(
    ("secret", "public"),
    [
        ("https://u:p4ss@h.org:80/a/x.tif", "https://***@h.org:80/a/x.tif"),
        ("https://t0ken@h.org/x.tif", "https://***@h.org/x.tif"),
        ("https://h/x.tif?X-Amz-Signature=p4ss", "https://h/x.tif?***"),
        ("https://h/x.tif#token=p4ss", "https://h/x.tif?***"),
        ("/vsicurl/https://h/x.tif?sig=p4ss&b=1", "/vsicurl/https://h/x.tif?***"),
        ("s3://key:p4/ss@bucket/x.zarr", "s3://***@bucket/x.zarr"),
        ("/vsicurl?max_retry=2&url=https%3A%2F%2Fh%2Fx.tif%3Fsig%3Dp4ss&header.Authorization=p4ss",
         "/vsicurl/https://h/x.tif?***"),
        ("/vsicurl?header.Authorization=Bearer%20p4ss", "/vsicurl/***"),
        ("/vsis3/bucket/x.tif?sig=p4ss", "/vsis3/bucket/x.tif?***"),
        ("x.tif?sig=p4ss: it is damaged", "x.tif?*** it is damaged"),
        ("cannot open 'https://h/x.tif?a=p4ss', or \"s3://k:p4ss@b/c\"",
         "cannot open 'https://h/x.tif?***', or \"s3://***@b/c\""),
        ("token=p4ss and Authorization: Bearer p4ss", "token=*** and Authorization: Bearer ***"),
        ("stack/S1?_2021*_v?.tif holds no image", "stack/S1?_2021*_v?.tif holds no image"),
        ("/data/user@site/x.tif", "/data/user@site/x.tif"),
        ("tcp://10.0.0.1:8786", "tcp://10.0.0.1:8786"),
        ("https://stac-extensions.github.io/sar/v1.3.0/schema.json",
         "https://stac-extensions.github.io/sar/v1.3.0/schema.json"),
    ],
)  # fmt: skip
def test_a_url_keeps_what_names_the_file_and_nothing_secret(secret: str, public: str) -> None:
    assert hide_secrets(secret) == public
    assert hide_secrets(public) == public
    assert public in SarstackError(secret).message()
    assert not re.search("p4/?ss", SarstackError("a", expected=secret, where=[secret]).message())


def test_the_name_of_a_file_is_that_of_the_path_of_its_url() -> None:
    assert file_name("https://h/a/S1_20210101_vv.tif?X-Amz-Date=20300101T000000Z/x") == (
        "S1_20210101_vv.tif"
    )
    assert file_name("/vsicurl?url=https%3A%2F%2Fh%2Fx.tif%3Fsig%3D1&a=b") == "x.tif"
    assert file_name("stack/S1?=1.tif") == "S1?=1.tif"
    assert public_path("stack/x.tif?a=1") == "stack/x.tif?a=1"  # a file on the disk


class SignedFiles(BaseHTTPRequestHandler):
    """Serve one file, by ranges, to requests with the right password and signature only."""

    content = b""

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, *, send: bool) -> None:
        given = parse_qs(urlsplit(self.path).query).get("X-Amz-Signature")
        if given != [SIGNATURE] or self.headers.get("Authorization") != f"Basic {SECRETS[-1]}":
            self.send_error(403)
            return
        first, last = 0, len(self.content) - 1
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.end_headers()
        if send:
            self.wfile.write(self.content[first : last + 1])

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def signed_url(tmp_path: Path) -> Iterator[str]:
    """A stack of five dates in one file on a server that wants a password and a signature."""
    rng, shape = np.random.default_rng(1), (96, 120)
    dates = [reflectivity(shape) * rng.gamma(LOOKS, 1 / LOOKS, shape) for _ in range(5)]
    names = [f"S1A_IW_202101{day:02d}T051234_vv" for day in (1, 7, 13, 19, 25)]
    file = write_tif(tmp_path / "farm.tif", np.stack(dates).astype(np.float32), names=names)
    SignedFiles.content = file.read_bytes()
    file.unlink()
    server = ThreadingHTTPServer(("127.0.0.1", 0), SignedFiles)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/data/farm.tif?{QUERY}"
    server.shutdown()
    server.server_close()
    thread.join()


Finished = subprocess.CompletedProcess[bytes]


def sarstack(*arguments: str) -> Finished:
    command = [sys.executable, "-m", "sarstack", "--verbose", *arguments]
    return subprocess.run(command, capture_output=True, check=False)


@pytest.fixture
def run_jobs(signed_url: str, tmp_path: Path) -> Callable[..., list[Finished]]:
    """Despeckle, build labels and tune from a signed URL, each in a process."""

    def run(*cluster: str) -> list[Finished]:
        out = tmp_path / "out"
        model = str(save_small_network(tmp_path, "despecknet"))
        return [
            sarstack("despeckle", signed_url, "-o", str(out), "--method", "boxcar", "--stac",
                     *cluster),
            sarstack("build-labels", signed_url, "-o", str(out / "labels.zarr"), *cluster),
            sarstack("finetune", signed_url, "-o", str(out / "m.safetensors"), "--model", model,
                     "--steps", "2", "--batch-size", "2", "--patch-px", "32", *cluster),
        ]  # fmt: skip

    return run


def assert_no_secrets(runs: list[Finished], folder: Path) -> None:
    for run in runs:
        assert not find_secrets(run.stdout + run.stderr)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 15
    for path in written:
        assert not find_secrets(path.read_bytes() + path.name.encode()), path


@pytest.mark.slow
def test_no_secret_of_a_url_is_written_or_printed(
    signed_url: str, tmp_path: Path, run_jobs: Callable[..., list[Finished]]
) -> None:
    out = tmp_path / "out"
    runs = [
        sarstack("info", signed_url),
        sarstack("despeckle", signed_url, "-o", str(out), "--method", "boxcar", "--dry-run"),
        *run_jobs(),
    ]
    saved = out / "run.yaml"
    assert yaml.safe_load(saved.read_text())["stack"].endswith("/data/farm.tif?***")
    # Another signature of the same file: the results are finished already.
    renewed = signed_url.replace("X-Amz-Date=2030", "X-Amz-Date=2031")
    runs.append(sarstack("despeckle", renewed, "--config", str(saved)))
    assert [run.returncode for run in runs] == [0] * len(runs), runs[-1].stderr.decode()
    assert b"farm.tif" in runs[0].stdout
    assert b"5 finished before" in runs[-1].stderr
    assert len(list(out.glob("farm_*_boxcar.tif"))) == 5
    failing = [
        sarstack("despeckle", "--config", str(saved)),
        sarstack("info", signed_url.replace("%3D%3D", "")),
        sarstack("--debug", "info", signed_url.replace("farm", "town").replace("%3D%3D", "")),
        sarstack("despeckle", signed_url, "nonsense-argument", signed_url),
    ]
    assert [run.returncode for run in failing] == [5, 3, 3, 2]
    assert b"the whole URL, given again" in failing[0].stderr
    assert_no_secrets([*runs, *failing], tmp_path)


@pytest.mark.slow
def test_no_secret_of_a_url_reaches_a_cluster_in_clear_text(
    tmp_path: Path, run_jobs: Callable[..., list[Finished]]
) -> None:
    runs = run_jobs("--cluster", "local", "--workers", "1")
    assert [run.returncode for run in runs] == [0, 0, 0], runs[-1].stderr.decode()
    assert_no_secrets(runs, tmp_path)


def find_secrets(content: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in content]
