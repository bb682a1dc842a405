"""What notebooks show for objects: their facts, escaped, in the colours of the page."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from simulated_stack import SimulatedStack
from written_html import read_html as read

import sarstack
from sarstack.html_repr import MAX_CHARACTERS, Details, render_html
from sarstack.networks.model_file import read_card, shipped_model
from sarstack.workflows.despeckle.plan import plan_despeckle
from sarstack.workflows.despeckle.state import Outcome
from sarstack.workflows.learning.job import AdaptedModel
from sarstack.workflows.settings import DespeckleConfig

HOSTILE = "<script>alert('&')</script>\u202egnp.\x1b[31m $x$"


def test_hostile_texts_are_shown_as_text() -> None:
    details = [Details(HOSTILE, {HOSTILE: HOSTILE}, [HOSTILE])]
    text = read(render_html(HOSTILE, {HOSTILE: HOSTILE, "long": "x" * 9999}, details))
    assert text.count("<script>alert('&')</script>") == 7
    assert max(map(len, re.findall("x+", text))) < MAX_CHARACTERS


def test_empty_facts_and_details_are_left_out() -> None:
    html = render_html("title", {"a": "", "b": "2"}, [Details("empty", {})])
    assert read(html) == "titleb2"


def test_many_facts_are_counted() -> None:
    assert "and 60 more" in read(render_html("title", {str(i): "x" for i in range(100)}))


def test_the_card_of_a_model() -> None:
    card = read_card(shipped_model("despecknet-mt"))
    text = read(card._repr_html_())
    assert f"halo{card.halo} px" in text
    assert card.licence in text
    assert "<script>" in read(replace(card, data=HOSTILE)._repr_html_())


def test_the_plan_of_a_run_and_its_outcome(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack(shape=(60, 70), n_dates=2).folder
    config = DespeckleConfig.make(stack=str(stack), output=str(tmp_path / "out"), method="lee")
    plan = plan_despeckle(config)
    text = read(plan._repr_html_())
    assert all(f"{name}{value}" in text for name, value in plan.facts().items() if name != "time")
    assert not (tmp_path / "out").exists()
    outcome = sarstack.despeckle(config)
    text = read(outcome._repr_html_())
    assert f"{len(outcome.outputs)} images" in text
    assert str(tmp_path / "out" / "report.html") in text
    assert "failed" not in text


def test_an_outcome_names_its_failures() -> None:
    outcome = Outcome(Path("out"), (), {"a.tif": HOSTILE}, 0, "s3://bucket/out")
    text = read(outcome._repr_html_())
    assert "a.tif<script>" in text
    assert "s3://bucket/out" in text


def test_an_adapted_model() -> None:
    model = AdaptedModel(Path("a.safetensors"), improved=False, message=HOSTILE)
    assert "Nothing became better" in read(model._repr_html_())
