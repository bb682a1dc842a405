"""A small NISAR GCOV granule, written with the structure of a real one by h5py."""

from pathlib import Path

import h5py
import numpy as np

NAME = "NISAR_L2_PR_GCOV_{cycle}_143_D_070_4005_DHDH_A_{time}_20260823T030521_P05023_N_F_J_001.h5"
TIME = "20260823T030458"
PIXEL_M, LEFT, TOP, EPSG = 20.0, 500_000.0, 4_400_000.0, 32611
# Samples of the single-look image are 1.2 times as many as are independent, in each direction.
SWATH = {"rangeBandwidth": 20e6, "azimuthBandwidth": 1267.0, "slantRangeSpacing": 6.245676}
LINE_S = 1 / 1520.4


def write_gcov(
    folder,
    terms,
    *,
    time=TIME,
    name=None,
    instrument="LSAR",
    product="GCOV",
    mask=None,
    looks=5.0,
    chunk=128,
    others=None,
    **identification,
):
    """Write a granule with the terms of frequency A (for example ``HHHH``), and B in `others`."""
    name = name or NAME.format(cycle="028", time=time)
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "missionId": "NISAR",
        "productType": product,
        "trackNumber": np.uint32(143),
        "frameNumber": np.uint16(70),
        "absoluteOrbitNumber": np.uint32(4711),
        "orbitPassDirection": "Descending",
        "lookDirection": "Left",
        "zeroDopplerStartTime": "2026-08-23T03:04:58.000000000",
        "processingDateTime": "2026-08-25T11:00:00",
        "compositeReleaseId": "P05023",
        "boundingPolygon": "POLYGON ((" + "0 0, " * 300 + "0 0))",
    } | identification
    with h5py.File(path, "w", fs_strategy="page") as file:
        about = file.create_group(f"science/{instrument}/identification")
        for key, value in facts.items():
            about[key] = np.bytes_(value) if isinstance(value, str) else value
        about["listOfFrequencies"] = np.array(["A", "B"][: 2 if others else 1], "S1")
        for letter, own in (("A", terms), ("B", others)):
            if own:
                place = f"science/{instrument}/{product}/grids/frequency{letter}"
                _write_grid(file.create_group(place), own, mask, looks, chunk)
                source = f"science/{instrument}/{product}/metadata/sourceData/swaths"
                for name, value in SWATH.items():
                    file[f"{source}/frequency{letter}/{name}"] = value
        file[f"{source}/zeroDopplerTimeSpacing"] = LINE_S
    return path


def _write_grid(group, terms, mask, looks, chunk):
    shape = next(iter(terms.values())).shape
    axes = {
        "xCoordinates": LEFT + (np.arange(shape[1]) + 0.5) * PIXEL_M,
        "yCoordinates": TOP - (np.arange(shape[0]) + 0.5) * PIXEL_M,
    }
    for name, values in axes.items():
        group[name] = values
        group[name].make_scale(name)
        group[f"{name[:-1]}Spacing"] = float(values[1] - values[0])
    group["projection"] = np.uint32(EPSG)
    group["projection"].attrs["epsg_code"] = EPSG
    group["listOfPolarizations"] = np.array(sorted({t[:2] for t in terms}), "S2")
    group["listOfCovarianceTerms"] = np.array(sorted(terms), "S4")
    group["centerFrequency"] = 1.239e9
    layers = dict(terms)
    layers["numberOfLooks"] = np.full(shape, looks, np.float32)
    layers["numberOfLooks"][:, : shape[1] // 3] *= 2
    layers["rtcGammaToSigmaFactor"] = np.ones(shape, np.float32)
    layers["mask"] = np.ones(shape, np.uint8) if mask is None else mask
    for name, values in layers.items():
        size = tuple(min(chunk, n) for n in shape)
        layer = group.create_dataset(
            name, data=values, chunks=size, compression="gzip", compression_opts=1, shuffle=True
        )
        layer.dims[0].attach_scale(group["yCoordinates"])
        layer.dims[1].attach_scale(group["xCoordinates"])
        layer.attrs["_FillValue"] = np.array(255 if name == "mask" else np.nan, values.dtype)
