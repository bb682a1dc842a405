"""Check and measure sarstack on a GPU, the most telling steps first. See README.md.

Each step runs in a process of its own, with a limit, and writes OUT/STEP.json after each finding: a
step that is stopped keeps what it has found.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NETWORKS = ("despecknet", "despecknet-lite", "despecknet-mt")
LIMITS_S = {
    "environment": 30, "laws": 60, "peaks": 45, "networks": 75, "scene": 120, "memory": 60,
    "cluster": 75, "ranks": 90,
}  # fmt: skip
SMALL_FACTOR = 5
"""By how much the limits are larger on a CPU, which may have other work."""

FULL_SCENE = (16705, 26102)
Image = NDArray[np.float32]


class Findings:
    """What a step finds, written to a file at once."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, dict[str, Any]()

    def note(self, name: str, value: Any) -> None:
        """Keep a finding, and print it."""
        self.found[name] = value
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=1, default=str))
        part.replace(self.path)
        print(f"  {name}: {value}", flush=True)

    def attempt(self, name: str, find: Callable[[], Any]) -> None:
        """Keep what a function returns, or why it failed; the others go on."""
        try:
            self.note(name, find())
        except Exception as failure:
            self.note(f"FAILED {name}", f"{type(failure).__name__}: {str(failure)[-500:]}")


class Setting:
    """Device and sizes of the measurements."""

    def __init__(self, *, small: bool) -> None:
        import torch

        self.small = small
        self.on_gpu = torch.cuda.is_available() and not small
        self.device = "cuda" if self.on_gpu else "cpu"
        if small:
            torch.set_num_threads(1)

    def wait(self) -> None:
        """Wait until the device has done its work."""
        import torch

        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object], at_least_s: float = 0.3) -> float:
        """Return the median time of a call, warm."""
        times: list[float] = []
        call(), self.wait()
        end = time.perf_counter() + (0.05 if self.small else at_least_s)
        while len(times) < 2 or (time.perf_counter() < end and len(times) < 50):
            start = time.perf_counter()
            call(), self.wait()
            times.append(time.perf_counter() - start)
        return float(np.median(times))


def draw_dates(side: int, n_dates: int, *, holes: bool) -> Image:
    """Draw fields and points under 4.4 looks, (time, y, x); the land repeats every 1024 px."""
    rng, part = np.random.default_rng(side), min(side, 1024)
    fields = 10 ** rng.uniform(-1.8, -0.6, (part // 64 + 1,) * 2)
    land = np.kron(fields, np.ones((64, 64)))[:part, :part]
    land[rng.random(land.shape) > 0.9995] *= 300
    n_times = -(-side // part)
    noisy = land * rng.gamma(4.4, 1 / 4.4, (n_dates, part, part))
    dates = np.tile(noisy.astype(np.float32), (1, n_times, n_times))[:, :side, :side].copy()
    if holes:
        dates[:, side // 3 : side // 3 + 40, side // 5 : side // 2] = np.nan
        dates[rng.random(dates.shape) > 0.999] = np.nan
    return dates


def compare(found: Image, expected: Image) -> dict[str, Any]:
    """Return how far two results are apart, and whether NaN and bits are the same."""
    with np.errstate(all="ignore"):
        difference = np.abs(10 * np.log10(found.astype(np.float64) / expected))
    finite = difference[np.isfinite(difference)]
    return {
        "largest_db": round(float(finite.max(initial=0)), 5),
        "mean_db": round(float(finite.mean()), 6) if finite.size else None,
        "same_nan": bool((np.isnan(found) == np.isnan(expected)).all()),
        "same_bits": bool(np.array_equal(found, expected, equal_nan=True)),
    }


def check_environment(findings: Findings, setting: Setting) -> None:
    import torch

    from sarstack.cluster.layout import find_machine, plan_layout
    from sarstack.networks.cuda import has_fused_relu
    from sarstack.networks.inference import choose_device, choose_precision

    machine = find_machine(on_gpu=True)
    findings.note("machine", vars(machine))
    findings.note("layout", plan_layout(None, machine, in_processes=True).describe())
    findings.note("device", [choose_device(), choose_precision(choose_device())])
    findings.note("torch", torch.__version__)
    findings.note("convolution and ReLU in one call", has_fused_relu("cuda", torch.bfloat16))
    if setting.on_gpu:
        findings.note("gpu", [torch.cuda.get_device_name(), *torch.cuda.mem_get_info()])


def check_laws(findings: Findings, setting: Setting) -> None:
    """Compare the device with the CPU, and check the laws of methods on it."""
    from sarstack.despecklers import make_despeckler
    from sarstack.evaluation.laws import LAWS, despeckle_tiled, find_violation
    from sarstack.speckle.statistics import measure_scene

    side, tile_px = (112, 64) if setting.small else (1100, 512)
    dates = draw_dates(side, 4, holes=True)
    statistics = measure_scene(dates, 4.4)
    for name in NETWORKS[1:2] if setting.small else NETWORKS:
        exact = make_despeckler(name, device="cpu", precision="float32")
        expected = exact.apply(dates, statistics)[0]
        for precision in ("float32", "bfloat16"):
            method = make_despeckler(name, device=setting.device, precision=precision)
            whole = method.apply(dates, statistics)
            label = f"{name} {precision}"
            findings.note(f"{label}, to float32 of the CPU", compare(whole[0], expected))
            again = method.apply(dates, statistics)
            findings.note(f"{label}, repeated", compare(again, whole))
            tiled = despeckle_tiled(method, dates, statistics, tile_px)
            findings.note(f"{label}, tiles of {tile_px} px to whole", compare(tiled, whole))
            factor = np.float32(1024)
            scaled = method.apply(dates * factor, measure_scene(dates * factor, 4.4)) / factor
            findings.note(f"{label}, 1024 times the input", compare(scaled, whole))
    method = make_despeckler("despecknet-lite", device=setting.device, precision="float32")
    for law in [law for law in LAWS if law.name == "size"] if setting.small else LAWS:
        findings.attempt(f"law: {law.title}", lambda law=law: find_violation(method, law) or "kept")


def measure_peaks(findings: Findings, setting: Setting) -> None:
    """Measure what the device can do: TFLOP/s and GB/s."""
    import torch

    small, device = setting.small, setting.device

    def convolve(channels: int, side: int, dtype: torch.dtype, how: Callable[..., object]) -> float:
        image = torch.randn(1, channels, side, side, device=device, dtype=dtype)
        weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype) * 0.05
        image, weight = (
            part.contiguous(memory_format=torch.channels_last) for part in (image, weight)
        )
        bias = image.new_zeros(channels)
        with torch.inference_mode():
            took = setting.seconds(lambda: [how(image, weight, bias) for _ in range(10)]) / 10
        return round(18e-12 * channels**2 * side**2 / took, 3)

    def plain(image: Any, weight: Any, bias: Any) -> object:
        return torch.conv2d(image, weight, bias, padding=1)

    def with_relu(image: Any, weight: Any, bias: Any) -> object:
        return torch.conv2d(image, weight, bias, padding=1).relu_()

    def in_one_call(image: Any, weight: Any, bias: Any) -> object:
        return torch.cudnn_convolution_relu(image, weight, bias, (1, 1), (1, 1), (1, 1), 1)

    for channels, side in [(64, 64)] if small else [(64, 340), (128, 170), (64, 1024), (128, 512)]:
        for dtype in (torch.bfloat16, torch.float32):
            name = f"convolution {channels} channels {side} px {str(dtype)[6:]}, TFLOP/s"
            findings.attempt(name, lambda c=channels, s=side, d=dtype: convolve(c, s, d, plain))
    side = 32 if small else 512
    for how in (with_relu, in_one_call) if setting.on_gpu else (with_relu,):
        name = f"convolution 128 channels bfloat16 {how.__name__}, TFLOP/s"
        findings.attempt(name, lambda h=how: convolve(128, side, torch.bfloat16, h))
    n = 128 if small else 8192
    left = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    took = setting.seconds(lambda: left @ left)
    findings.note("matrix product bfloat16, TFLOP/s", round(2e-12 * n**3 / took, 2))
    n_bytes = 2**22 if small else 2**28
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    took = setting.seconds(lambda: target.copy_(source))
    findings.note("copy on the device, GB/s read and written", round(2e-9 * n_bytes / took, 1))
    for kind in ("pageable", "pinned") if setting.on_gpu else ():
        host = torch.ones(n_bytes, dtype=torch.uint8, pin_memory=kind == "pinned")
        took = setting.seconds(lambda h=host: source.copy_(h))
        findings.note(f"to the device, {kind}, GB/s", round(1e-9 * n_bytes / took, 1))


def measure_networks(findings: Findings, setting: Setting) -> None:
    """Measure Mpx/s: the network alone, and an image from the host and back."""
    import torch

    from sarstack.despecklers import make_despeckler
    from sarstack.networks.inference import load_network
    from sarstack.networks.two_scale import encode_sensor
    from sarstack.speckle.statistics import SceneStatistics

    statistics = SceneStatistics(4.4, (0.1, 0.1), 0.3)
    sides = (128,) if setting.small else (512, 1024, 2048, 4096)
    sensor = encode_sensor(torch.tensor([4.4]), torch.full((1, 2), 0.1), torch.ones(1))
    for name in NETWORKS[1:] if setting.small else NETWORKS:
        method = make_despeckler(name, device=setting.device)
        network = load_network(method.path, method.sha256, setting.device)
        for side in sides:
            image, n_px = draw_dates(side, 1, holes=False)[0], side**2
            terms = method.contribute(image, statistics) if method.n_summary else None
            summary = None if terms is None else (2 * terms).astype(np.float32)

            def host_to_host(m: Any = method, i: Image = image, s: Any = summary) -> float:
                return 1e-6 * i.size / setting.seconds(lambda: m.despeckle(i, statistics, s))

            findings.attempt(f"{name}, {side} px, host to host, Mpx/s", host_to_host)
            there = torch.from_numpy(image)[None, None].to(setting.device)
            others = None if terms is None else torch.from_numpy(summary)[None].to(setting.device)
            told = sensor.to(setting.device)

            def forward(n: Any = network, x: Any = there, o: Any = others, t: Any = told) -> object:
                with torch.inference_mode():
                    return n(x, None, sensor=t, others=o, noise=False)

            findings.attempt(
                f"{name}, {side} px, network alone, Mpx/s",
                lambda f=forward, n=n_px: 1e-6 * n / setting.seconds(f),
            )


def write_scene(folder: Path, shape: tuple[int, int], n_dates: int = 1) -> Path:
    """Write dates in two polarisations, 10 m, compressed, with a border of nodata."""
    import rasterio

    rows, columns = shape
    folder.mkdir(parents=True)
    affine = rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)
    for date in range(n_dates):
        strip = draw_dates(1024, n_dates, holes=False)[date]
        strip = np.tile(strip, (1, -(-columns // 1024)))[:, :columns]
        strip[:, : columns // 40] = np.nan
        path = folder / f"S1A_IW_202301{date + 1:02d}T054321_gamma0_linear_vv.tif"
        profile = {
            "driver": "GTiff", "height": rows, "width": columns, "count": 1, "dtype": "float32",
            "nodata": np.nan, "crs": "EPSG:32633", "transform": affine,
            "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "ZSTD",
            "zstd_level": 1, "num_threads": "ALL_CPUS",
        }  # fmt: skip
        with rasterio.open(path, "w", **profile) as raster:
            for y in range(0, rows, 1024):
                n = min(1024, rows - y)
                raster.write(strip[:n], 1, window=((y, y + n), (0, columns)))
        shutil.copyfile(path, str(path).replace("_vv", "_vh"))
    return folder


def run_command(*arguments: object) -> dict[str, Any]:
    """Run `sarstack`; return its time and the end of what it said."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "sarstack", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - start, 2)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-400:]}")
    return {"seconds": seconds, "said": done.stderr[-300:]}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for large files."""
    with tempfile.TemporaryDirectory(prefix="sarstack-gpu-") as folder:
        yield Path(folder)


@contextmanager
def watch_gpu(findings: Findings, name: str, setting: Setting) -> Iterator[None]:
    """Note how busy the GPU was, as nvidia-smi sees it."""
    if not setting.on_gpu or shutil.which("nvidia-smi") is None:
        yield
        return
    query = "--query-gpu=utilization.gpu,memory.used"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as smi:
        try:
            yield
        finally:
            smi.terminate()
            rows = [line.split(", ") for line in smi.communicate()[0].splitlines()]
            numbers = np.array([row for row in rows if len(row) == 2], float)
            if len(numbers):
                busy, used = numbers.mean(0)[0], numbers.max(0)[1]
                findings.note(f"{name}, GPU busy % and largest MiB", [round(busy, 1), used])


def measure_scene_to_cog(findings: Findings, setting: Setting) -> None:
    """Despeckle one scene of two polarisations, from file to COG."""
    shapes = [(256, 320)] if setting.small else [(8192, 8192), FULL_SCENE]
    for shape in shapes:
        with temporary_folder() as folder:
            stack, made = write_scene(folder / "stack", shape), folder / "made"
            name = f"2 x {shape[0]} x {shape[1]}"
            method = NETWORKS[1 if setting.small else 0]
            options = ("--method", method, "--set", f"device={setting.device}")

            def despeckle(s: Path = stack, m: Path = made, o: Any = options) -> dict[str, Any]:
                took = run_command("despeckle", s, "-o", m, *o)
                record = json.loads((m / "run.json").read_text())
                keys = ("peak_memory_bytes", "estimated_memory_bytes")
                return took | {key: record.get(key) for key in keys}

            with watch_gpu(findings, name, setting):
                findings.attempt(name, despeckle)


def check_memory(findings: Findings, setting: Setting) -> None:
    """Despeckle while nearly all memory of the GPU is taken."""
    if not setting.on_gpu:
        findings.note("skipped", "there is no GPU")
        return
    import torch

    from sarstack.despecklers import make_despeckler, network_method
    from sarstack.speckle.statistics import SceneStatistics

    method = make_despeckler("despecknet", device="cuda")
    image, statistics = draw_dates(4096, 1, holes=False)[0], SceneStatistics(4.4, (0.1, 0.1), 0.3)
    expected = method.despeckle(image, statistics)
    for free in (1.5e9, 0.3e9, 0.06e9):

        def beside_another(free: float = free) -> dict[str, Any]:
            network_method._MAX_BLOCK_PX.clear()
            torch.cuda.empty_cache()
            taken = int(torch.cuda.mem_get_info()[0] - free)
            hog = torch.empty(taken, dtype=torch.uint8, device="cuda")
            try:
                found = compare(method.despeckle(image, statistics), expected)
            finally:
                del hog
            return found | {"block_px": dict(network_method._MAX_BLOCK_PX)}

        findings.attempt(f"4096 px with {free / 1e9:g} GB free", beside_another)


def check_cluster(findings: Findings, setting: Setting) -> None:
    """Compare the pixels of threads with those of local clusters."""
    import rasterio

    side = 320 if setting.small else 4096
    method = NETWORKS[1 if setting.small else 0]
    options = ("--method", method, "--tile-px", 256 if setting.small else 1024,
               "--set", f"device={setting.device}", "--pol", "vv")  # fmt: skip
    ways: dict[str, tuple[object, ...]] = {
        "threads": (), "cluster": ("--cluster",), "two workers": ("--cluster", "--workers", 2),
    }  # fmt: skip
    if setting.small:
        del ways["cluster"]
    images: dict[str, Image] = {}
    with temporary_folder() as folder:
        stack = write_scene(folder / "stack", (side, side))
        for way, more in ways.items():
            made = folder / way
            findings.attempt(
                way, lambda m=made, o=more: run_command("despeckle", stack, "-o", m, *options, *o)
            )
            for path in made.glob("*_vv_*.tif"):
                with rasterio.open(path) as raster:
                    images[way] = raster.read(1)
        for way in [way for way in images if way != "threads"]:
            findings.attempt(
                f"{way} to threads", lambda w=way: compare(images[w], images["threads"])
            )


def check_ranks(findings: Findings, setting: Setting) -> None:
    """Finetune with one process and with two ranks; both take the same steps."""
    from sarstack.networks.model_file import load_model, shipped_model

    side, n_steps = (192, 2) if setting.small else (1024, 20)
    model = shipped_model(NETWORKS[1 if setting.small else 0])
    options = ("--steps", n_steps, "--batch-size", 4, "--patch-px", 64, "--pol", "vv",
               "--model", model)  # fmt: skip
    with temporary_folder() as folder:
        stack = write_scene(folder / "stack", (side, side), n_dates=4)
        ways: dict[str, tuple[object, ...]] = {
            "one process": (), "two ranks": ("--cluster", "--workers", 2),
        }  # fmt: skip
        for way, more in ways.items():
            target = folder / f"{way}.safetensors".replace(" ", "-")
            findings.attempt(
                way, lambda t=target, o=more: run_command("finetune", stack, "-o", t, *options, *o)
            )

        def difference() -> float:
            first, second = (
                load_model(path)[0].state_dict() for path in sorted(folder.glob("*.safetensors"))
            )
            return max(float((first[key] - second[key]).abs().max()) for key in first)

        findings.attempt("largest difference of two weights", difference)


STEPS: dict[str, Callable[[Findings, Setting], None]] = {
    "environment": check_environment, "laws": check_laws, "peaks": measure_peaks,
    "networks": measure_networks, "scene": measure_scene_to_cog, "memory": check_memory,
    "cluster": check_cluster, "ranks": check_ranks,
}  # fmt: skip


def run_step(name: str, options: argparse.Namespace, limit_s: float) -> str:
    """Run one step in a process of its own; return how it ended."""
    command = [sys.executable, __file__, str(options.folder), "--step", name]
    command += ["--small"] if options.small else []
    # A session of its own: if it is stopped, the processes that it started end with it.
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_s:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    path = options.folder / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    failures = [key for key in found if key.startswith("FAILED")]
    if code:
        return f"exit code {code}"
    return f"{len(failures)} parts failed" if failures else "ok"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0, help="time for all steps")
    parser.add_argument("--only", default="", help="names of steps, separated by commas")
    parser.add_argument("--small", action="store_true", help="small sizes, on the CPU")
    parser.add_argument("--step", choices=STEPS, help="run this step in this process")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.step:
        findings = Findings(options.folder / f"{options.step}.json")
        STEPS[options.step](findings, Setting(small=options.small))
        return 0
    end, ended = time.monotonic() + options.seconds, dict[str, Any]()
    for name in options.only.split(",") if options.only else STEPS:
        start = time.monotonic()
        limit_s = min(LIMITS_S[name] * (SMALL_FACTOR if options.small else 1), end - start)
        print(f"{name}, at most {limit_s:.0f} s", flush=True)
        result = run_step(name, options, limit_s) if limit_s > 5 else "no time was left"
        ended[name] = [result, round(time.monotonic() - start, 1)]
        print(f"{name}: {result}, {ended[name][1]} s", flush=True)
        (options.folder / "steps.json").write_text(json.dumps(ended, indent=1))
    return int(any(result != "ok" for result, _ in ended.values()))


if __name__ == "__main__":
    sys.exit(main())
