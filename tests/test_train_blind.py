"""Training of speckle2void on the noisy images of a stack."""

from dataclasses import replace

import numpy as np
import pytest
from small_networks import small_network
from written_images import write_tif

from sarstack.errors import ConfigError, UsageError
from sarstack.networks.card import BiasTable, make_card
from sarstack.networks.model_file import read_card, save_model
from sarstack.workflows.learning.finetune import finetune_on_stack
from sarstack.workflows.learning.train import train_on_stack
from sarstack.workflows.settings import FinetuneConfig, TrainConfig


def test_labels_are_refused_for_speckle2void_and_needed_for_others(make_stack) -> None:
    stack = str(make_stack(shape=(64, 64), n_dates=1).folder)
    for settings in ({"variant": "speckle2void", "labels": "labels.zarr"}, {}):
        with pytest.raises(ConfigError, match="labels"):
            train_on_stack(TrainConfig.make(stack=stack, **settings))


def test_a_small_image_is_refused_without_a_word_of_labels(tmp_path) -> None:
    intensity = np.random.default_rng(0).exponential(0.1, (20, 20)).astype(np.float32)
    write_tif(tmp_path / "a_20210304_vv.tif", intensity)
    with pytest.raises(UsageError, match="valid pixels") as caught:
        train_on_stack(TrainConfig.make(
            stack=str(tmp_path), variant="speckle2void", looks=1, scale="linear", steps=1,
            output=str(tmp_path / "m.safetensors"),
        ))  # fmt: skip
    assert "labels" not in caught.value.do


def test_speckle2void_learns_from_one_noisy_image(make_stack, tmp_path) -> None:
    """One date, no label; the looks of a single date are an estimate, and are used."""
    simulated = make_stack(shape=(96, 96), n_dates=1)
    network = small_network("speckle2void")
    card = replace(make_card(network), spread_scale=BiasTable(bias=((0.6,),)))
    start = save_model(tmp_path / "start.safetensors", network, card)
    adapted = train_on_stack(TrainConfig.make(
        stack=str(simulated.folder), variant="speckle2void", start=str(start), steps=30,
        learning_rate=1e-3, batch_size=2, patch_px=32, output=str(tmp_path / "m.safetensors"),
    ))  # fmt: skip
    assert adapted.improved
    assert "surprise" in adapted.message
    losses = [row["validation_loss"] for row in adapted.history]
    assert losses[-1] < losses[0]
    assert read_card(adapted.model).variant == "speckle2void"
    assert read_card(adapted.model).spread_scale == card.spread_scale
    with pytest.raises(UsageError, match="not tuned"):
        finetune_on_stack(FinetuneConfig.make(
            stack=str(simulated.folder), model=str(adapted.model),
            output=str(tmp_path / "f.safetensors"),
        ))  # fmt: skip
