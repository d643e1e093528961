"""Nets that only answer, with their chains of convolutions in 8-bit integers, for CPUs that multiply those faster."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kdgen.models.nets.chain import ConvChain
from kdgen.models.nets.fold import shared
from kdgen.types import Net
from kdgen.utils.conditions import call
from kdgen.utils.devices import convolution_seconds, median_seconds
from kdgen.utils.hooks import capture_outputs

Pair = tuple[str, str]
"""The names of a convolution and of the ReLU after it."""

SHORTEST = 3
"""Convolutions that a chain has at least: the first stays as it is, and the conversions must be worth their while."""


class Quantise(nn.Module):
    """ReLU and 8 bits: ``(B, C, H, W)`` in floats to multiples of ``scale``, ``uint8`` from 0 to 255."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """The nearest multiples of what is above zero, cut at 255."""
        return (x * (1 / self.scale)).round_().clamp_(0, 255).to(torch.uint8)


class Quantised(nn.Module):
    """What stands where a ReLU was: ``uint8`` goes on as it came, in steps of ``scale``."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """As it is."""
        return x


class Dequantise(Quantised):
    """The end of a chain: ``uint8`` to floats."""

    def forward(self, x: Tensor) -> Tensor:
        """Times ``scale``, in float32."""
        return _scaled(x, self.scale)


class QuantisedConv(nn.Module):
    """A convolution and ReLU from ``uint8`` to ``uint8``, sums in 32 bits (Jacob et al. 2018, arXiv 1712.05877, eq. 7).

    Weights have 8 bits and a scale for each output channel.

    Args:
        conv: what it does, in floats.
        scale: of its input.
        out_scale: of its output.
    """

    def __init__(self, conv: nn.Conv2d, scale: float, out_scale: float) -> None:
        super().__init__()
        weight = conv.weight.detach().float()
        step = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
        whole = (weight / step[:, None, None, None]).round().to(torch.int8)
        bias = torch.zeros_like(step) if conv.bias is None else conv.bias.detach().float()
        shape = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        packed = torch.ops.onednn.qconv_prepack(whole, step, scale, 0, *shape)
        zeros = torch.zeros(len(step), dtype=torch.int32)
        self._kernel: tuple[Any, ...] = (scale, 0, packed, step, zeros, bias, *shape)
        self._output: tuple[Any, ...] = (out_scale, 0, torch.uint8, "relu", [], "")

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` in ``uint8`` to ``(B, K, H', W')``."""
        out: Tensor = torch.ops.onednn.qconv2d_pointwise(x, *self._kernel, *self._output)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A net some of whose layers compute in 8-bit integers; it can't be differentiated.

    Attributes:
        net: the net, its layers at the paths that they had.
        hidden: paths whose values it doesn't know: a convolution is one with the ReLU after it.
    """

    net: Net
    hidden: frozenset[str]


def has_chains(net: Net) -> bool:
    """Whether ``quantised`` changes anything of a net."""
    return any(_chains(chain) for _, chain in _sequences(net))


@torch.no_grad()
def quantised(net: Net, x: Tensor, cond: Mapping[str, Tensor]) -> Made:
    """A net with its chains in 8-bit integers; it holds the same weights everywhere else.

    A chain is three or more convolutions, each with a ReLU after it, one after another in an ``nn.Sequential``. The
    first convolution of each, which sees the input of the chain, and everything that is in no chain stay as they are.
    Ranges are those of the net's answer to ``x`` ``(B, C, H, W)``.
    """
    out = shared(net)
    found = [(path, chain, pairs) for path, chain in _sequences(out) for pairs in _chains(chain)]
    relus = [_join(path, relu) for path, _, pairs in found for _, relu in pairs]
    with capture_outputs(out, relus) as seen:
        call(out, x, cond)
    hidden: set[str] = set()
    for path, chain, pairs in found:
        ranges = [seen[name].max().item() for _, relu in pairs if (name := _join(path, relu)) in seen]
        if len(ranges) < len(pairs):  # a part of the net that this answer did without
            continue
        _quantise(chain, pairs, [max(each, 1e-6) / 255 for each in ranges])
        names = [name for name, _ in chain.named_children()]
        first, last = names.index(pairs[0][1]), names.index(pairs[-1][1])
        kept = {relu for _, relu in pairs}
        hidden |= {_join(path, name) for name in names[first:last] if name not in kept}
    return Made(net=out, hidden=frozenset(hidden))


def in_floats(net: Net, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was seen at paths of a net, with 8-bit integers scaled back."""
    layers = {path: net.get_submodule(path) for path in values}
    scales = {path: layer.scale for path, layer in layers.items() if isinstance(layer, Quantise | Quantised)}
    return {path: v if v.is_floating_point() else _scaled(v, scales.get(path, 1.0)) for path, v in values.items()}


def _scaled(whole: Tensor, scale: float) -> Tensor:
    return whole.float().mul_(scale)


def _quantise(chain: nn.Sequential, pairs: Sequence[Pair], scales: Sequence[float]) -> None:
    setattr(chain, pairs[0][1], Quantise(scales[0]))
    for (conv, relu), (scale, out_scale) in zip(pairs[1:], pairwise(scales), strict=True):
        setattr(chain, conv, QuantisedConv(chain.get_submodule(conv), scale, out_scale))  # type: ignore[arg-type]
        setattr(chain, relu, Quantised(out_scale))
    setattr(chain, pairs[-1][1], Dequantise(scales[-1]))


def _sequences(net: nn.Module) -> Iterable[tuple[str, nn.Sequential]]:
    """The modules that run their children in order, each of them once."""
    for path, module in net.named_modules():
        in_order = isinstance(module, ConvChain) or type(module).forward is nn.Sequential.forward
        if isinstance(module, nn.Sequential) and in_order and len(list(module.named_children())) == len(module):
            yield path, module


def _chains(sequence: nn.Sequential) -> list[list[Pair]]:
    """Its convolutions and ReLUs that follow one another, as many as there are."""
    layers = [(name, layer) for name, layer in sequence.named_children() if type(layer) is not nn.Identity]
    chains: list[list[Pair]] = [[]]
    while len(layers) > 1:
        (name, layer), (next_name, next_layer), *rest = layers
        if isinstance(layer, nn.Conv2d) and _plain(layer) and type(next_layer) is nn.ReLU:
            chains[-1].append((name, next_name))
            layers = rest
        else:
            chains.append([])
            layers = layers[1:]
    return [chain for chain in chains if len(chain) >= SHORTEST]


def _plain(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@cache
@torch.no_grad()
def int8_pays(device: torch.device) -> bool:
    """Whether a 3x3 convolution of 64 channels is exact in 8-bit integers and at least 1.2 times faster than in floats.

    It isn't exact where two products are added up in 16 bits, as on processors without VNNI.
    """
    if device.type != "cpu":
        return False
    ones: Any = nn.Conv2d(64, 64, 3, padding=1)
    nn.init.ones_(ones.weight)
    nn.init.zeros_(ones.bias)
    x = torch.full((8, 64, 48, 48), 255, dtype=torch.uint8).to(memory_format=torch.channels_last)
    try:
        layer = QuantisedConv(ones, 1.0, 64 * 9.0)
        if not bool((layer(x)[:, :, 1:-1, 1:-1] == 255).all()):
            return False
    except (AttributeError, RuntimeError):
        return False
    quick = median_seconds(partial(layer, x), device)
    return all(convolution_seconds(device, dtype) > 1.2 * quick for dtype in (torch.float32, torch.bfloat16))
