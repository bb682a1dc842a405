"""STAC items: read back by pystac, on the right place and date, with the files they name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyproj import Transformer
from simulated_stack import SimulatedStack

from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig

pystac = pytest.importorskip("pystac")


def test_items_describe_the_images(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack()
    config = DespeckleConfig.make(
        stack=str(stack.folder), output=str(tmp_path / "out"), method="boxcar", stac=True
    )
    outcome = despeckle(config)
    collection = pystac.Collection.from_file(str(tmp_path / "out" / "stac" / "collection.json"))
    items = sorted(collection.get_items(), key=lambda item: item.datetime)
    assert [item.datetime.isoformat() for item in items] == [
        f"2021-01-{day}T05:12:34+00:00" for day in ("01", "13", "25")
    ]
    found = {Path(a.get_absolute_href()) for item in items for a in item.assets.values()}
    assert found == set(outcome.outputs)
    item = items[0]
    assert set(item.assets) == {"vv", "vh"}
    assert item.properties["proj:shape"] == [90, 120]
    assert item.properties["proj:code"] == "EPSG:32631"
    assert 3 < item.properties["sar:looks_equivalent_number"] < 6
    assert item.properties["platform"] == "sentinel-1a"
    to_lonlat = Transformer.from_crs(32631, 4326, always_xy=True)
    west, north = to_lonlat.transform(500_000.0, 4_800_000.0)
    assert item.bbox[0] == pytest.approx(west, abs=1e-6)
    assert item.bbox[3] == pytest.approx(north, abs=1e-4)
    for file in (tmp_path / "out" / "stac").iterdir():
        assert str(tmp_path) not in file.read_text(), "links are relative: the folder can be moved"
