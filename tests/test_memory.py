"""The memory that a plan foresees is what its workers need, for every kind of method."""

from pathlib import Path

import pytest

from sarstack.benchmark.made_stacks import write_stack
from sarstack.config import DespeckleConfig
from sarstack.workflows.despeckle import despeckle
from sarstack.workflows.plan import plan_despeckle


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "tile_px"),
    [("lee-sigma", 512), ("lee-sigma", 2048), ("quegan-yu", 2048), ("despecknet-lite", 1024),
     ("despecknet", 512), ("despecknet-mt", 1024)],
)  # fmt: skip
def test_a_worker_needs_what_its_plan_foresees(tmp_path: Path, method: str, tile_px: int) -> None:
    stack = write_stack(tmp_path, tile_px + 256, 2)
    config = DespeckleConfig.make(
        stack=str(stack), output=str(tmp_path / "out"), method=method, tile_px=tile_px,
        cluster="local", workers=1,
    )  # fmt: skip
    foreseen = plan_despeckle(config).memory_bytes
    outcome = despeckle(config)
    assert outcome.failures == {}
    assert 1 / 1.4 < foreseen / outcome.peak_bytes < 1.4
