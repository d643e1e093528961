"""Chains of convolutions in 8-bit integers."""

import copy

import pytest
import torch
from torch import nn

from kdgen.training.int8 import Dequantise, Quantise, QuantisedConv, has_chains, int8_pays, quantised

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not int8_pays(CPU), reason="8-bit integers are not faster on this machine")


def conv(inputs: int, outputs: int, **args: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, **args)


def test_a_convolution_of_whole_numbers_is_exact() -> None:
    torch.manual_seed(0)
    layer = conv(5, 4, stride=2, padding=2, dilation=2, bias=True)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-3, 4, layer.weight.shape).float())
        layer.weight[:, 0, 0, 0] = 127.0  # so that a step is one
        layer.bias.copy_(torch.randint(-50, 50, (4,)).float())
    x = torch.randint(0, 3, (2, 5, 9, 11))
    out = QuantisedConv(layer, 1.0, 1.0)(x.to(torch.uint8))
    assert out.dtype == torch.uint8
    assert torch.equal(out.float(), layer(x.float()).relu().clamp(max=255))


def test_quantise_and_dequantise_cut_and_round() -> None:
    x = torch.tensor([-1.0, 0.0, 0.24, 0.26, 30.0, 200.0]).view(1, 1, 1, 6)
    whole = Quantise(0.5)(x)
    assert whole.flatten().tolist() == [0, 0, 0, 1, 60, 255]
    assert Dequantise(0.5)(whole).flatten().tolist() == [0, 0, 0, 0.5, 30, 127.5]


def test_what_interrupts_a_chain_stays_as_it_is() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(1, 8), nn.ReLU(), conv(8, 8), nn.Identity(), nn.ReLU(), conv(8, 8), nn.ReLU(),
        nn.MaxPool2d(2), conv(8, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 1),
    )  # fmt: skip
    x = torch.randn(4, 1, 40, 40)
    made = quantised(net, x, {})
    kinds = [type(layer).__name__ for layer in made.net]
    assert kinds == ["Conv2d", "Quantise", "QuantisedConv", "Identity", "Quantised", "QuantisedConv", "Dequantise",
                     "MaxPool2d", "Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d"]  # fmt: skip
    assert made.hidden == {"2", "3", "5"}
    wanted = net(x)
    assert 0 < (made.net(x) - wanted).square().mean() < 1e-3 * wanted.var()


def test_a_chain_that_the_answer_did_without_stays_as_it_is() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Sequential(conv(1, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 4), nn.ReLU())
            self.idle = copy.deepcopy(self.used)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.used(x)
            return out

    made = quantised(Half(), torch.randn(2, 1, 20, 20), {})
    assert any(isinstance(layer, QuantisedConv) for layer in made.net.used.modules())  # type: ignore[union-attr]
    assert not any(isinstance(layer, QuantisedConv) for layer in made.net.idle.modules())  # type: ignore[union-attr]


def test_nets_that_do_not_run_their_layers_in_order_are_left_alone() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in reversed(list(self)):
                x = layer(x)
            return x

    layers = [conv(4, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 4), nn.ReLU()]
    assert has_chains(nn.Sequential(*layers))
    assert not has_chains(Backwards(*layers))
    assert not has_chains(nn.Sequential(*layers[:4]))
    shared = nn.ReLU()
    assert not has_chains(nn.Sequential(conv(4, 4), shared, conv(4, 4), shared, conv(4, 4), shared))
