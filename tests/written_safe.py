"""A small SAFE product, written with the structure of a real one: manifest, XML files, pixels."""

import re
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint

NAME = "S1{p}_{mode}_{kind}_1SDV_{start}_{stop}_030148_039993_{crc}"
STEM = "s1{p}-{swath}-{kind}-{pol}-{start}-{stop}-030148-039993-00{n}"


@dataclass
class Written:
    """Path of a product, and the tables that are in its XML files, by polarisation.

    A table is a list of (line, pixels, values of each quantity).
    """

    path: Path
    numbers: dict = field(default_factory=dict)
    calibration: dict = field(default_factory=dict)
    noise: dict = field(default_factory=dict)


def write_safe(
    folder,
    numbers,
    *,
    platform="B",
    mode="IW",
    old_noise=False,
    gcps=True,
    version="003.40",
    one_axis=False,
    start="2021-12-23T05:11:22.594441",
    crc="5371",
    seed=0,
    interval_s=1.5e-3,
    bursts=None,
    has_doppler=True,
    old_doppler=False,
    **header,
):
    """Write a product with the digital numbers of each polarisation, uint16 of (y, x).

    With `one_axis`, all calibration vectors have the same pixels, and values of float32. Of an SLC
    (``product_type="SLC"``) numbers are complex, keys can name a sub-swath (``iw1-vv``), and
    `bursts` has the first and last valid sample of each line of each burst, arrays of
    (bursts, lines). `old_doppler`: the FM rate as in products of 2015.
    """
    lines = next(iter(numbers.values())).shape[0]
    times_of_first = times = {"start": start, "stop": time_of_line(start, lines - 1, interval_s)}
    short = {k: re.sub("[-:]", "", t[:19]) for k, t in times.items()}
    kind = header.get("product_type", "GRD").lower()
    name = {"grd": "GRDH", "slc": "SLC_"}.get(kind, kind.upper())
    parts = {"p": platform, "mode": mode, "kind": name, "crc": crc}
    root = Path(folder) / (NAME.format(**parts, **short) + ".SAFE")
    (root / "annotation" / "calibration").mkdir(parents=True)
    (root / "measurement").mkdir()
    written = Written(root, numbers)
    for n, (key, pixels) in enumerate(numbers.items(), 1):
        swath, _, pol = key.rpartition("-")
        swath = swath or mode
        # The sub-swaths of a line are measured one after the other.
        delay = 0.9 * int(swath[2:] or 1) - 0.9 if bursts is not None else 0
        times = {k: time_of_line(t, delay, 1) for k, t in times_of_first.items()}
        stem = STEM.format(p=platform, swath=swath, kind=kind, pol=pol, n=n, **short).lower()
        calibration = _calibration_vectors(pixels.shape, seed + n, one_axis=one_axis)
        noise = _noise_vectors(pixels.shape, seed + n)
        written.calibration[key], written.noise[key] = calibration, noise
        _write_pixels(root / "measurement" / f"{stem}.tiff", pixels, gcps=gcps)
        facts = {
            "product_type": "GRD",
            "noise_removed": "false",
            "platform": platform,
            "mode": mode,
            "pol": pol.upper(),
            "swath": swath.upper(),
            "bursts": "" if bursts is None else _bursts(*bursts, times["start"], interval_s),
            "doppler": _doppler(times["start"], old_doppler=old_doppler)
            if bursts is not None and has_doppler
            else dict.fromkeys(("radar", "orbit", "tables"), ""),
            "interval": interval_s,
            "near_range": 5.35e-3,
            "datatake": 235923,
            **times,
        }
        annotation = root / "annotation"
        (annotation / f"{stem}.xml").write_text(_annotation(pixels.shape, facts | header))
        calibrated = _vectors("calibration", calibration)
        (annotation / "calibration" / f"calibration-{stem}.xml").write_text(
            f"<calibration>{calibrated}</calibration>"
        )
        (annotation / "calibration" / f"noise-{stem}.xml").write_text(
            _old_noise(noise)
            if old_noise
            else _noise(noise, pixels.shape, written, key, is_slc=kind == "slc")
        )
    (root / "manifest.safe").write_text(_MANIFEST.format(ipf=version))
    return written


def time_of_line(start, line, interval_s):
    """The time of a line after the first one, as in an annotation."""
    moment = datetime.fromisoformat(start) + timedelta(seconds=line * interval_s)
    return moment.isoformat(timespec="microseconds")


def zip_safe(root: Path) -> Path:
    """Write the zip file of a product beside it, as it is downloaded."""
    archive = root.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*")):
            file.write(path, path.relative_to(root.parent))
    return archive


def grid_points(shape):
    """Return (line, pixel, longitude, latitude) of the geolocation grid."""
    height, width = shape
    return [
        (line, pixel, 15.3 - pixel * 1e-4 + line * 2e-5, 42.4 - line * 9e-5 - pixel * 1e-5)
        for line in (0, height // 2, height - 1)
        for pixel in (0, width // 3, width - 1)
    ]


def _calibration_vectors(shape, seed, *, one_axis=False):
    """Vectors of uneven pixels, from before the first line to after the last one."""
    rng, (height, width) = np.random.default_rng(seed), shape
    vectors = []
    for line in (-7, height // 3, height // 2, height + 9):
        pixels = np.unique([*range(0, width, rng.integers(9, 30)), width - 1])
        if one_axis:
            pixels = np.unique([*range(0, width, 17), width - 1])
        base = 660 - 120 * pixels / width + rng.normal(0, 3, pixels.size)
        if one_axis:
            base = np.round(base * 8) / 8
        vectors.append((line, pixels, {"sigmaNought": base, "betaNought": np.full(pixels.size, 474),
                                       "gamma": base * 0.9375 - 5}))  # fmt: skip
    return vectors


def _noise_vectors(shape, seed):
    rng, (height, width) = np.random.default_rng(10 + seed), shape
    vectors = []
    for line in (0, height // 3, 2 * height // 3, height - 1):
        pixels = np.unique([*range(0, width, rng.integers(9, 30)), width - 1])
        noise = 2400 - 1000 * pixels / width + rng.normal(0, 40)
        vectors.append((line, pixels, {"noise": np.float32(noise).astype(float)}))
    return vectors


def _vectors(kind, vectors, names=None):
    texts = []
    for line, pixels, quantities in vectors:
        columns = {"pixel": pixels, **quantities}
        for name, values in columns.items():
            columns[name] = " ".join(
                f"{v:d}" if name == "pixel" else repr(float(v)) for v in values
            )
        inner = "".join(
            f'<{(names or {}).get(name, name)} count="{len(pixels)}">{text}'
            f"</{(names or {}).get(name, name)}>"
            for name, text in columns.items()
        )
        time = "<azimuthTime>2021-12-23T05:11:22.594441</azimuthTime>"
        texts.append(f"<{kind}Vector>{time}<line>{line}</line>{inner}</{kind}Vector>")
    return f'<{kind}VectorList count="{len(texts)}">{"".join(texts)}</{kind}VectorList>'


def _old_noise(noise):
    return f"<noise>{_vectors('noise', noise, {'noise': 'noiseLut'})}</noise>"


# Doppler of the bursts: constant in time, so that any time of an estimate gives the same.
STEERING_DEG_S, RADAR_HZ, SAMPLING_HZ, SPEED_M_S = 1.59, 5.405e9, 6.4e7, 7600.0
RANGE_ORIGIN_S, FM_RATE, CENTROID = 5.36e-3, (-2300.0, 4.4e5, -7.9e7), (12.0, -3e6, 2e10)


def _doppler(start, *, old_doppler):
    """Tables of FM rate and Doppler centroid, the steering rate, and the orbit."""
    rates = f"<azimuthFmRatePolynomial>{' '.join(map(repr, FM_RATE))}</azimuthFmRatePolynomial>"
    if old_doppler:
        rates = "".join(f"<c{i}>{c!r}</c{i}>" for i, c in enumerate(FM_RATE))
    centroid = f"<dataDcPolynomial>{' '.join(map(repr, CENTROID))}</dataDcPolynomial>"
    common = f"<azimuthTime>{start}</azimuthTime><t0>{RANGE_ORIGIN_S!r}</t0>"
    states = "".join(
        f"<orbit><time>{time_of_line(start, second, 1)}</time><velocity><x>{0.6 * SPEED_M_S!r}</x>"
        f"<y>0.0</y><z>{-0.8 * SPEED_M_S!r}</z></velocity></orbit>"
        for second in (-20, 20)
    )
    return {
        "radar": f"<azimuthSteeringRate>{STEERING_DEG_S!r}</azimuthSteeringRate>"
        f"<radarFrequency>{RADAR_HZ!r}</radarFrequency>"
        f"<rangeSamplingRate>{SAMPLING_HZ!r}</rangeSamplingRate>",
        "orbit": f"<azimuthFmRateList><azimuthFmRate>{common}{rates}</azimuthFmRate>"
        f"</azimuthFmRateList><orbitList>{states}</orbitList>",
        "tables": f"<dopplerCentroid><dcEstimateList><dcEstimate>{common}{centroid}</dcEstimate>"
        "</dcEstimateList></dopplerCentroid>",
    }


def _bursts(first, last, start, interval_s):
    texts = []
    for index, (own_first, own_last) in enumerate(zip(first, last, strict=True)):
        time = time_of_line(start, index * len(own_first), interval_s)
        own = {"firstValidSample": own_first, "lastValidSample": own_last}
        lists = "".join(
            f'<{name} count="{len(values)}">{" ".join(map(str, values))}</{name}>'
            for name, values in own.items()
        )
        texts.append(
            f"<burst><azimuthTime>{time}</azimuthTime><byteOffset>0</byteOffset>{lists}</burst>"
        )
    return (
        f"<swathTiming><linesPerBurst>{len(first[0])}</linesPerBurst>"
        f'<burstList count="{len(texts)}">{"".join(texts)}</burstList></swathTiming>'
    )


def _noise(noise, shape, written, pol, *, is_slc=False):
    """Range vectors, and azimuth factors of two swaths that meet in the middle."""
    (height, width), middle = shape, shape[1] // 2
    blocks = []
    swaths = [("IW1", (0, middle - 1)), ("IW2", (middle, width - 1))]
    for swath, (first, last) in [("IW1", (0, width - 1))] if is_slc else swaths:
        lines = np.unique([*range(0, height, 10), height - 1])
        factors = np.float32(1.1 + 0.2 * np.sin(lines / 7 + first)).astype(float)
        blocks.append((swath, 0, first, height - 1, last, lines, factors))
    written.noise[pol] = (noise, blocks)
    azimuth = "".join(
        f"<noiseAzimuthVector><swath>{swath}</swath><firstAzimuthLine>{y0}</firstAzimuthLine>"
        f"<firstRangeSample>{x0}</firstRangeSample><lastAzimuthLine>{y1}</lastAzimuthLine>"
        f"<lastRangeSample>{x1}</lastRangeSample>"
        f'<line count="{lines.size}">{" ".join(map(str, lines))}</line>'
        f'<noiseAzimuthLut count="{lines.size}">{" ".join(repr(float(f)) for f in factors)}'
        "</noiseAzimuthLut></noiseAzimuthVector>"
        for swath, y0, x0, y1, x1, lines, factors in blocks
    )
    if is_slc:  # without the places
        azimuth = re.sub(r"<(swath|first\w+|last\w+)>.*?</\1>", "", azimuth)
    ranges = _vectors("noiseRange", noise, {"noise": "noiseRangeLut"})
    return f"<noise>{ranges}<noiseAzimuthVectorList>{azimuth}</noiseAzimuthVectorList></noise>"


def _write_pixels(path, pixels, *, gcps):
    points = [GroundControlPoint(*p) for p in grid_points(pixels.shape)] if gcps else []
    place = {"gcps": points, "crs": "EPSG:4326"} if gcps else {}
    height, width = pixels.shape
    dtype = "complex_int16" if np.iscomplexobj(pixels) else pixels.dtype
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=dtype, **place
    ) as file:
        file.write(pixels, 1)


def _annotation(shape, facts):
    points = "".join(
        f"<geolocationGridPoint><line>{line}</line><pixel>{pixel}</pixel><latitude>{y!r}</latitude>"
        f"<longitude>{x!r}</longitude><height>0</height></geolocationGridPoint>"
        for line, pixel, x, y in grid_points(shape)
    )
    return _ANNOTATION.format(lines=shape[0], samples=shape[1], points=points, **facts)


_ANNOTATION = """<?xml version="1.0" encoding="UTF-8"?>
<product>
  <adsHeader>
    <missionId>S1{platform}</missionId><productType>{product_type}</productType>
    <polarisation>{pol}</polarisation><mode>{mode}</mode><swath>{swath}</swath>
    <startTime>{start}</startTime><stopTime>{stop}</stopTime>
    <absoluteOrbitNumber>30148</absoluteOrbitNumber>
    <missionDataTakeId>{datatake}</missionDataTakeId>
  </adsHeader>
  <generalAnnotation><productInformation><pass>Descending</pass>{doppler[radar]}
  </productInformation>{doppler[orbit]}</generalAnnotation>
  <imageAnnotation>
    <imageInformation>
      <productFirstLineUtcTime>{start}</productFirstLineUtcTime>
      <productLastLineUtcTime>{stop}</productLastLineUtcTime>
      <slantRangeTime>{near_range!r}</slantRangeTime>
      <rangePixelSpacing>1.0e+01</rangePixelSpacing>
      <azimuthPixelSpacing>1.0e+01</azimuthPixelSpacing>
      <azimuthTimeInterval>{interval!r}</azimuthTimeInterval>
      <numberOfSamples>{samples}</numberOfSamples><numberOfLines>{lines}</numberOfLines>
    </imageInformation>
    <processingInformation>
      <thermalNoiseCorrectionPerformed>{noise_removed}</thermalNoiseCorrectionPerformed>
    </processingInformation>
  </imageAnnotation>
  {bursts}{doppler[tables]}
  <geolocationGrid><geolocationGridPointList>{points}</geolocationGridPointList></geolocationGrid>
</product>
"""

_MANIFEST = """<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0">
  <metadataSection>
    <safe:software name="Sentinel-1 IPF" version="{ipf}"/>
    <safe:relativeOrbitNumber type="start">22</safe:relativeOrbitNumber>
    <safe:relativeOrbitNumber type="stop">22</safe:relativeOrbitNumber>
  </metadataSection>
</xfdu:XFDU>
"""
