"""Networks too small to be good and quick enough to be tested: what the tests share."""

from pathlib import Path

import torch
from torch import nn

from sarstack.networks.blind_spot import BlindSpotNetwork
from sarstack.networks.card import make_card
from sarstack.networks.despecknet_paper import Branch
from sarstack.networks.model_file import save_model
from sarstack.networks.network import DeSpeckNet
from sarstack.networks.variants import VARIANTS, build_network

PAPER = "despecknet-paper"
LOG_VARIANTS = sorted(set(VARIANTS) - {PAPER})
# They compute in bfloat16, and looks and correlation are their input.
TWO_SCALE_VARIANTS = sorted(set(LOG_VARIANTS) - {"sar-cnn", "speckle2void"})
TWO_SCALES = {"width": 8, "deep_width": 8, "head": 1, "body": 1, "tail": 1, "dilation": 1}
ARCHITECTURES = {
    "despecknet": TWO_SCALES,
    "despecknet-lite": TWO_SCALES,
    "despecknet-mt": TWO_SCALES,
    "despecknet-paper": {"depth": 5, "width": 8},
    "sar-cnn": {"depth": 17, "width": 8},
    "speckle2void": TWO_SCALES,
}


def small_network(variant: str = "despecknet", seed: int = 0, **sizes: int) -> DeSpeckNet:
    """Draw a network: every input matters, batch norms have statistics and gains."""
    torch.manual_seed(seed)
    network = build_network(variant, **ARCHITECTURES[variant] | sizes)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight, 1, 0.2)
            nn.init.normal_(norm.bias, 0, 0.2)
    if isinstance(network, BlindSpotNetwork):
        nn.init.normal_(network.clean.join[-1].weight, std=0.3)
        return network.eval()
    for branch in (network.clean, network.noise):
        last = branch.layers[-1] if isinstance(branch, Branch) else branch.leave
        nn.init.normal_(last.weight, std=0.1)
        if getattr(branch, "spread", None) is not None:
            for layer in (branch.spread.first, branch.spread.second, branch.spread.last):
                nn.init.normal_(layer.weight, std=0.3)
        if variant == "despecknet-paper":  # its output is an intensity: mostly positive
            nn.init.constant_(last.bias, 1.0)
    return network.eval()


def save_small_network(folder: Path, variant: str, **sizes: int) -> Path:
    """Write the model file of a small network."""
    network = small_network(variant, **sizes)
    card = make_card(network, licence="Apache-2.0")
    return save_model(folder / "small.safetensors", network, card)
