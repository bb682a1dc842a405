"""Commands and Python code of the documentation run as they are printed."""

import re
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pystac
import pytest
import written_images
import written_stac
from distributed import Client, LocalCluster
from served_folder import serve_folder
from simulated_stack import SimulatedStack
from test_decorrelate import draw_field
from written_safe import write_safe

import sarstack
from sarstack.cli.commands import run
from sarstack.networks.model_file import shipped_model

pytestmark = pytest.mark.slow
SITE = Path(__file__).parents[1] / "docs"
PAGES = [*sorted(SITE.glob("*.md")), *sorted(SITE.glob("tutorial/*.md"))]
OPERA = "OPERA_L2_RTC-S1_T047-100908-{burst}_202303{day}T012349Z_20230420T070034Z_S1A_30_v1.0"
HYP3 = "S1A_IW_202301{day}T053020_DVP_RTC30_G_gpuned_AB{day}"
# A training takes minutes, most of them to measure the bias of its network: other tests do it.
TRAINING = {"train", "finetune"}
MakeStack = Callable[..., SimulatedStack]


def split_examples(page: Path) -> list[tuple[str, str]]:
    """Return (language, text) of all blocks of commands and Python code of a page."""
    return re.findall(r"```(console|python)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the inputs that the pages name, and enter their folder."""
    mpl.use("agg")
    stack = make_stack(shape=(96, 128), n_dates=5).folder
    shutil.copytree(stack, tmp_path / "demo" / "stack")
    write_map_products(tmp_path)
    for day in ("2021-12-23", "2022-01-04"):
        numbers = {p: digital_numbers(mean) for p, mean in (("vv", 0.1), ("vh", 0.02))}
        write_safe(tmp_path / "safe", numbers, start=f"{day}T05:11:22.594441", crc=f"53{day[-2:]}")
    bursts = np.zeros((2, 90), int), np.full((2, 90), 149)
    field = (300 * draw_field(1, (180, 150), centre=(0, 0))).round()
    write_safe(tmp_path / "slc", {"iw1-vv": field}, product_type="SLC", bursts=bursts)
    for model in ("tuned", "model"):
        shutil.copy(shipped_model("despecknet-lite"), tmp_path / f"{model}.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_map_products(folder: Path) -> None:
    """Write OPERA and HyP3 products, and files of two bands without descriptions."""
    for name in ("opera", "hyp3", "two-bands"):
        (folder / name).mkdir()
    mask = np.zeros(written_images.SHAPE, np.uint8)
    for day in ("01", "13"):
        pixels = written_images.speckle(int(day))
        for burst in ("IW2", "IW3"):
            stem = folder / "opera" / OPERA.format(burst=burst, day=day)
            written_images.write_tif(Path(f"{stem}_VV.tif"), pixels)
            written_images.write_tif(Path(f"{stem}_mask.tif"), mask)
        name = HYP3.format(day=day)
        with zipfile.ZipFile(folder / "hyp3" / f"{name}.zip", "w") as archive:
            for layer, content in (("VV", pixels), ("ls_map", mask + 1)):
                file = written_images.write_tif(folder / f"{name}_{layer}.tif", content)
                archive.write(file, f"{name}/{file.name}")
        two = folder / "two-bands" / f"farm_202103{day}.tif"
        written_images.write_tif(two, np.stack([pixels, pixels / 5]))


def digital_numbers(mean: float) -> np.ndarray:
    speckle = np.random.default_rng(1).gamma(4.4, mean / 4.4, (120, 150))
    return np.round(474 * np.sqrt(speckle)).clip(1).astype(np.uint16)


@pytest.fixture
def names(folder: Path) -> Iterator[dict[str, Any]]:
    """Give what a page takes from elsewhere: a web server, a Dask cluster, names in Python."""
    items, _ = written_stac.write_scenes(folder)
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = str(folder / asset["href"])
    known = {"items": [pystac.Item.from_dict(item) for item in items]}
    known["cube"] = sarstack.open_stack("stack/")
    with serve_folder(folder) as url:
        images = sorted((folder / "stack").glob("*_vv.tif"))
        text = "\n".join(f"{url}/stack/{image.name}" for image in images)
        Path("urls.txt").write_text(text, encoding="utf-8")
        yield known


@pytest.mark.parametrize("page", [p for p in PAGES if split_examples(p)], ids=lambda p: p.stem)
def test_the_examples_of_a_page_run(page: Path, names: dict[str, Any]) -> None:
    for language, text in split_examples(page):
        if language == "console":
            run_commands(text)
        elif file := re.match(r"# (\w+\.py)\n", text):
            Path(file[1]).write_text(text, encoding="utf-8")
        else:
            exec(compile(text, page.name, "exec"), names)


def run_commands(text: str) -> None:
    for line in re.findall(r"^\$ sarstack (.*)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        if words[0] in TRAINING:
            continue
        if words[:2] == ["bench", "quality"]:
            words += ["--size-px", "96", "--landscapes", "0"]
        for result in [w for w in words if w in ("despeckled", "despeckled/", "lee/", "tuned/")]:
            if words[0] in ("evaluate", "check") and not Path(result).exists():
                assert run(["-q", "despeckle", "stack/", "-o", result, "--method", "lee"]) == 0
        if "scheduler.json" in words:
            with LocalCluster(n_workers=1, dashboard_address=None) as cluster, Client(cluster) as c:
                c.write_scheduler_file("scheduler.json")
                assert run(["-q", *words]) == 0, line
        else:
            assert run(["-q", *words]) == 0, line
