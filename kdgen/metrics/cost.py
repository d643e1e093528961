"""What a net costs: parameters, multiply-accumulates, time, bytes."""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kdgen.types import Net


def num_params(net: Net) -> int:
    """The number of parameters, each shared one counted once."""
    return sum(p.numel() for p in net.parameters())


def macs(net: Net, channels: int, *, size: int = 256, cond: Mapping[str, Tensor] | None = None) -> int:
    """Multiply-accumulates of the net for one image.

    Convolutions, transposed convolutions, linear layers, matrix products and attention are counted, as half of the
    floating-point operations that ``torch.utils.flop_counter`` sees; activations, norms and resampling are not.

    Args:
        net: any net.
        channels: of the image, 1 or 3.
        size: height and width of the image.
        cond: conditions the net needs, each ``(1, ...)``.
    """
    with _probe(net, channels, size, cond) as (x, conditions), FlopCounterMode(display=False) as counter:
        net(x, **conditions)
    return int(counter.get_total_flops()) // 2


def latency_ms(
    net: Net, channels: int, *, size: int = 256, cond: Mapping[str, Tensor] | None = None, rounds: int = 15
) -> float:
    """Median time of the net for one image, in milliseconds, on the device where it lies, after a warm-up.

    Args:
        net: any net.
        channels: of the image, 1 or 3.
        size: height and width of the image.
        cond: conditions the net needs, each ``(1, ...)``.
        rounds: how many times to measure.
    """
    times = []
    with _probe(net, channels, size, cond) as (x, conditions):
        for _ in range(3 + rounds):
            _wait(x.device)
            begin = time.perf_counter()
            net(x, **conditions)
            _wait(x.device)
            times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[3:])


def size_bytes(net: Net) -> int:
    """Bytes of the net as a safetensors file, in the dtype its weights have now; shared tensors are stored once."""
    stored: dict[tuple[int, torch.Size], tuple[str, Tensor]] = {}
    for name, tensor in net.state_dict().items():
        stored.setdefault((tensor.data_ptr(), tensor.shape), (name, tensor))
    return len(save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in stored.values()}))


@contextmanager
def _probe(
    net: Net, channels: int, size: int, cond: Mapping[str, Tensor] | None
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """One grey image and conditions where the net lies, in its dtype, with the net in evaluation mode."""
    weight = next((t for t in chain(net.parameters(), net.buffers()) if t.is_floating_point()), torch.zeros(()))
    x = torch.zeros(1, channels, size, size, device=weight.device, dtype=weight.dtype)
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield x, {name: value.to(weight.device) for name, value in (cond or {}).items()}
    finally:
        for module, mode in modes.items():
            module.training = mode


def _wait(device: torch.device) -> None:
    if device.type in ("cuda", "mps", "xpu"):
        torch.accelerator.synchronize(device)
