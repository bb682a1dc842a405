"""Model files: complete, small, checked against their card, refused in words when they are not."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_networks import ARCHITECTURES, save_small_network, small_network

from sarstack.despecklers import make_despeckler
from sarstack.errors import ModelCardError
from sarstack.networks.card import CARD_KEY, BiasTable, ModelCard, make_card
from sarstack.networks.despecknet import VARIANTS, build_network
from sarstack.networks.inference import load_network
from sarstack.networks.model_file import (
    load_model,
    model_sha256,
    read_card,
    read_header,
    save_model,
    shipped_model,
)


@pytest.fixture(params=sorted(VARIANTS))
def model(request, tmp_path):
    return save_small_network(tmp_path, request.param)


def test_model_file_brings_back_the_network_and_its_card(model):
    network, card = load_model(model)
    assert not network.training
    assert card == read_card(model)
    assert (card.variant, card.domain) == (network.variant, network.domain)
    assert (card.halo, card.channels) == (network.halo, network.channels)
    assert card.architecture == network.architecture == ARCHITECTURES[card.variant]
    assert card.licence == "Apache-2.0"
    assert card.created.endswith("+00:00")


def test_convolutions_are_kept_in_16_bits_and_all_else_exactly(model):
    network, card = load_model(model)
    written, found = load_file(str(model)), network.state_dict()
    expected = small_network(card.variant).state_dict()
    assert set(written) == set(found) == set(expected)
    for key, value in expected.items():
        is_convolution = value.ndim == 4
        assert written[key].dtype == (torch.float16 if is_convolution else value.dtype), key
        rounded = value.half().float() if is_convolution else value
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], rounded), key
    assert any(not torch.equal(found[key], expected[key]) for key in expected)


def test_a_file_written_again_is_the_same_network(model, tmp_path):
    network, card = load_model(model)
    again, _ = load_model(save_model(tmp_path / "again.safetensors", network, card))
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_card_survives_json_with_its_table_and_architecture():
    table = BiasTable((1.0, 4.0), (0.0, 0.5), ((1.1, 1.2), (1.0, 0.9)))
    card = ModelCard(
        "despecknet", "log", 24, {"width": 8, "body": 2}, channels=2.5, calibration=table,
        polarisations=("vv", "vh"), scores={"flat": 0.5},
    )  # fmt: skip
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json(card.to_json()).architecture == {"width": 8, "body": 2}
    later = json.loads(card.to_json()) | {"colour": "blue"}
    assert ModelCard.from_json(json.dumps(later)) == card


def test_bias_is_interpolated_in_its_table():
    table = BiasTable((1.0, 4.0), (0.0, 0.5), ((1.1, 1.2), (1.0, 0.9)))
    assert table.interpolate(1, (0, 0)) == pytest.approx(1.1)
    assert table.interpolate(2, (0.5, 0.5)) == pytest.approx(1.05)  # half way in log looks
    assert table.interpolate(4, (0.25, 0.25)) == pytest.approx(0.95)
    assert table.interpolate(100, (0.9, 0.9)) == pytest.approx(0.9)  # beyond the table: its edge


def damage_nothing(path):
    path.unlink()


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def damage_pickle(path):
    torch.save({"weights": torch.zeros(3)}, path)


def damage_empty(path):
    path.write_bytes(b"")


def damage_text(path):
    path.write_text("this is not a model, but it is longer than eight bytes")


def damage_no_card(path):
    save_file({"a": torch.zeros(2)}, str(path))


def damage_other_card(path):
    save_file({"a": torch.zeros(2)}, str(path), metadata={CARD_KEY: json.dumps({"variant": 3})})


def damage_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


def assert_refused(attempt, path):
    with pytest.raises(ModelCardError) as caught:
        attempt()
    error = caught.value
    assert error.what
    assert error.expected
    assert error.where == [str(path)]
    assert error.do


@pytest.mark.parametrize("damage", DAMAGES)
def test_unusable_model_files_are_refused_in_four_parts(model, damage):
    name = read_card(model).variant
    damage(model)
    assert_refused(lambda: make_despeckler(name, model=model), model)
    assert_refused(lambda: load_model(model), model)


def rewrite_card(path, **change):
    """Change fields of the card, without any check; the weights stay the same."""
    card = json.loads(read_header(path)["__metadata__"][CARD_KEY]) | change
    save_file(load_file(str(path)), str(path), metadata={CARD_KEY: json.dumps(card)})


@pytest.mark.parametrize("change", [{"halo": 3}, {"variant": "despecknet-next"},
                                    {"architecture": {}}, {"architecture": [8]},
                                    {"architecture": {"colour": 3}}])  # fmt: skip
def test_card_that_does_not_fit_the_weights_is_refused(model, change):
    rewrite_card(model, **change)
    assert_refused(lambda: load_model(model), model)


def test_card_with_any_other_size_is_refused(model):
    architecture = read_card(model).architecture
    for key, size in architecture.items():
        if key != "dilation":  # of one block nothing is dilated
            rewrite_card(model, architecture=architecture | {key: size + 1})
            assert_refused(lambda: load_model(model), model)
        rewrite_card(model, architecture=architecture | {key: str(size)})
        assert_refused(lambda: load_model(model), model)


def test_card_that_does_not_tell_the_dilation_is_refused(tmp_path):
    """Its layers would be the variant's, of the same size but with other gaps."""
    network = build_network("despecknet-lite", width=8, deep_width=8, body=2, dilation=1)
    model = save_model(tmp_path / "m.safetensors", network, make_card(network))
    architecture = read_card(model).architecture
    rewrite_card(model, architecture={k: v for k, v in architecture.items() if k != "dilation"})
    assert_refused(lambda: load_model(model), model)


def test_card_of_another_network_cannot_be_saved(tmp_path):
    network = small_network()
    card = dataclasses.replace(make_card(network), architecture={"width": 99})
    with pytest.raises(ModelCardError, match="99"):
        save_model(tmp_path / "a.safetensors", network, card)
    card = dataclasses.replace(make_card(network), variant="despecknet-lite")
    with pytest.raises(ModelCardError, match="despecknet-lite"):
        save_model(tmp_path / "a.safetensors", network, card)
    assert not list(tmp_path.iterdir())


def test_model_of_another_variant_is_refused(model):
    variant = read_card(model).variant
    for other in set(VARIANTS) - {variant}:
        with pytest.raises(ModelCardError, match=f"expected: a {other}"):
            make_despeckler(other, model=model)
    assert make_despeckler(str(model)).name == variant


def test_file_changed_after_planning_is_refused(model):
    planned = model_sha256(model)
    network, card = load_model(model)
    save_model(model, network, dataclasses.replace(card, licence="other"))
    with pytest.raises(ModelCardError, match="SHA-256"):
        load_network(str(model), planned)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_shipped_models_load_fit_and_are_small(variant):
    path = shipped_model(variant)
    assert path.stat().st_size < 5e6
    network, card = load_model(path)
    assert card.variant == variant
    assert network.architecture == build_network(variant).architecture
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    assert card.licence == "Apache-2.0"
    assert card.command
    assert card.data


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_shipped_models_know_their_bias(variant):
    table = read_card(shipped_model(variant)).calibration
    assert len(table.looks) > 3
    assert len(table.correlation) > 3
    assert np.shape(table.bias) == (len(table.looks), len(table.correlation))
    assert np.all(np.abs(np.log(table.bias)) < 0.2)
