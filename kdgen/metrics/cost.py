"""What a net costs: parameters, multiply-accumulates, time, bytes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kdgen.models.abilities import Opaque, opaque
from kdgen.models.input_shape import Shaped
from kdgen.models.nets.fold import used
from kdgen.models.tiling import whole
from kdgen.types import Batch, Net
from kdgen.utils.devices import call_seconds, evaluating

WARMUP = 3
"""Calls of a net that are not counted."""

ENOUGH = 5, 0.5
"""Calls that count and seconds of all, after which slow nets are called no more."""


def num_params(net: Net) -> int:
    """The number of parameters in use, each shared one counted once, and of weights that other runtimes hold."""
    return sum(p.numel() for p in used(net).parameters()) + sum(each.num_weights for each in opaque(net))


def num_learning(net: Net) -> int:
    """The number of those of its parameters that learn: of a LoRA's the least part."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def macs(net: Net, x: Tensor, cond: Mapping[str, Tensor] | None = None) -> int:
    """Multiply-accumulates of one call of the net, or of those that a larger image takes where it takes one size.

    Convolutions, transposed convolutions, linear layers, matrix products and attention are counted, as half of the
    floating-point operations that ``torch.utils.flop_counter`` sees; activations, norms and resampling are not. The
    call takes the plain paths of attention, whose matrix products show on every device: fused kernels hide them. What
    another runtime computes is counted as it says itself.

    Args:
        net: any net.
        x: its input, ``(1, ...)``: an image or a latent.
        cond: conditions the net needs, each ``(1, ...)``.

    Returns:
        their number; 0 where another runtime computes some that it does not know.
    """
    net = used(net)
    # the counter follows what layers are handed by autograd, parameters among it, which inference mode has none of
    with _probe(net, x, cond, inference=False) as (inner, conditions), _plain_attention():
        if x.ndim == 4 and not (isinstance(net, Shaped) and net.input_shape is not None):
            whole(net, inner, conditions)  # what sizes it takes is tried before anything is counted
        with FlopCounterMode(display=False) as counter, _told(net) as elsewhere:
            whole(net, inner, conditions)
    return int(counter.get_total_flops()) // 2 + sum(elsewhere) if all(elsewhere) else 0


def latency_ms(net: Net, x: Tensor, cond: Mapping[str, Tensor] | None = None, *, rounds: int = 15) -> float:
    """Time of one call of a net in milliseconds, as ``latencies_ms`` takes it."""
    return latencies_ms([net], x, cond, rounds=rounds)[0]


def latencies_ms(
    nets: Sequence[Net],
    x: Tensor,
    cond: Mapping[str, Tensor] | None = None,
    *,
    own: Mapping[int, Batch] | None = None,
    rounds: int = 15,
) -> list[float]:
    """Time of one call of each net in milliseconds, on the device where it lies, after a warm-up.

    It is that of the fastest call, which other work on the machine disturbs least. The nets are called in turn, so that
    what slows the machine for a while slows them alike; nets of one architecture are timed as one, so that equal nets
    have equal figures.

    Args:
        nets: any nets.
        x: their input, ``(1, ...)``: an image or a latent.
        cond: conditions the nets need, each ``(1, ...)``.
        own: what some of the nets, by their numbers, are called on in place of these.
        rounds: how many times to measure; fewer where that takes long, but at least as many as ``ENOUGH`` says.
    """
    nets, own = [used(net) for net in nets], own or {}
    first: dict[Any, int] = {}
    like = [first.setdefault((_architecture(net), number in own), number) for number, net in enumerate(nets)]
    times: dict[int, list[float]] = {number: [] for number in first.values()}
    (least, seconds), began = ENOUGH, time.perf_counter()
    for done in range(WARMUP + rounds):
        if done >= WARMUP + least and time.perf_counter() - began > seconds:
            break
        for number, measured in times.items():
            asked, told = (own[number].x, own[number].cond) if number in own else (x, cond)
            with _probe(nets[number], asked, told) as (inner, conditions):
                measured += call_seconds(partial(whole, nets[number], inner, conditions), inner.device, 1)
    return [1000 * min(times[number][WARMUP:]) for number in like]


def _architecture(net: Net) -> Any:
    """Equal for nets that compute the same with other weights, as far as their modules and the shapes of these tell."""
    weights = tuple((name, tuple(t.shape), t.dtype, t.device) for name, t in net.state_dict().items())
    return (type(net), repr(net), weights) if weights else net


def size_bytes(net: Net) -> int:
    """Bytes of the net as a safetensors file, in the dtype its weights have now; shared tensors are stored once.

    Of what another runtime computes it is those of its file.
    """
    stored: dict[tuple[int, torch.Size], tuple[str, Tensor]] = {}
    for name, tensor in net.state_dict().items():
        stored.setdefault((tensor.data_ptr(), tensor.shape), (name, tensor))
    files = sum(each.num_bytes for each in opaque(net))
    if files and not stored:
        return files
    return files + len(save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in stored.values()}))


@contextmanager
def _told(net: Net) -> Iterator[list[int]]:
    """What each call of a module that another runtime computes costs, as it says."""
    calls: list[int] = []

    def note(module: Any, args: Any, out: Any) -> None:
        calls.append(module.macs(args[0]))

    hooks = [module.register_forward_hook(note) for module in net.modules() if isinstance(module, Opaque)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products, that of ``nn.MultiheadAttention`` too."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _probe(
    net: Net, x: Tensor, cond: Mapping[str, Tensor] | None, *, inference: bool = True
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Input and conditions where the net lies, in its dtype, with the net in evaluation mode."""
    weight = next((t for t in chain(net.parameters(), net.buffers()) if t.is_floating_point()), torch.zeros(()))
    with evaluating(net, inference=inference):
        yield x.to(weight), {name: value.to(weight.device) for name, value in (cond or {}).items()}
