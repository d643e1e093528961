"""Which device to train on, whether bfloat16 pays there, and nets on it."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from kdgen.types import Net, UserError, text
from kdgen.utils.conditions import conditions_of

LANES = 16
"""Channels that CPUs convolve at a time in bfloat16; with fewer, gradients cost half as much in channels last."""


CROWDED = 0.3
"""Cores that other programs may take before a machine counts as busy."""


def pick_device(name: str) -> torch.device:
    """A device by name; ``auto`` is what accelerate picks for this process: a GPU where there is one.

    Raises:
        UserError: for a device that this machine does not have.
    """
    if name == "auto":
        found: torch.device = PartialState().device
        return found
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(text("no_device_here", "no device {name!r} here ({error}): use auto or cpu", name=name,
                             error=str(error).splitlines()[0])) from None  # fmt: skip
    return torch.device(name)


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Whether a 3x3 convolution of 64 channels runs at least 1.2 times faster in bfloat16 than in float32."""
    if device.type == "mps":
        return False
    return convolution_seconds(device, torch.float32) > 1.2 * convolution_seconds(device, torch.bfloat16)


@cache
def convolution_seconds(device: torch.device, dtype: torch.dtype) -> float:
    """How long a 3x3 convolution of ``(8, 64, 48, 48)`` to as many channels takes, channels last."""
    conv = channels_last(nn.Conv2d(64, 64, 3, padding=1, device=device)).to(dtype)
    x = torch.zeros(8, 64, 48, 48, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        return median_seconds(partial(conv, x), device)


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int = 7, warmup: int = 0) -> float:
    """How long a call takes on a device, the median of several after some that do not count."""
    return statistics.median(call_seconds(run, device, warmup + repeats)[warmup:])


def call_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """How long each of several calls takes on a device."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        if device.type in ("cuda", "mps", "xpu"):
            torch.accelerator.synchronize(device)
        times.append(time.perf_counter() - started)
    return times


def fastest_seconds(run: Callable[[], object], device: torch.device, repeats: int = 4) -> float:
    """How long the fastest of several calls takes, which other work on the machine disturbs least."""
    return min(call_seconds(run, device, repeats))


class OtherWork:
    """How many cores of the processor other programs keep busy, from its making on."""

    def __init__(self) -> None:
        self._started = self._read()

    def cores(self) -> float:
        """The mean number of cores so far; 0 where the system does not tell."""
        (clock, busy, own), started = self._read(), self._started
        elapsed = max(clock - started[0], 1e-3)
        return max((busy - started[1] - (own - started[2])) / elapsed, 0.0)

    def crowds(self, cores: float) -> bool:
        """Whether so many cores of others leave fewer than the threads of this process need."""
        return cores > CROWDED and cores + torch.get_num_threads() > (os.cpu_count() or 1) + CROWDED

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds of the clock, of all cores at work, and of this process at work."""
        own = sum(os.times()[:4])
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
            user, nice, system, _, _, irq, softirq, *_ = map(int, line.split()[1:])
        except (OSError, ValueError):
            return time.monotonic(), own, own
        return time.monotonic(), (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), own


@contextmanager
def threads(number: int) -> Iterator[None]:
    """While open, what this thread of Python calls computes on so many threads of the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device) -> str:
    """What nets on a device compute with, in words, e.g. ``2 cores of a CPU, AMD EPYC 9B14``."""
    if device.type == "cuda":
        return f"an {torch.cuda.get_device_name(device)}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next(line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{cores} core{'s' * (cores > 1)} of a CPU, {model}"


def channels_last(net: Net) -> Net:
    """The net with its weights laid out for convolutions over (B, H, W, C), which CPUs and GPUs run faster."""
    return _laid_out(net, torch.channels_last)


def contiguous(net: Net) -> Net:
    """The net with its weights laid out as modules are made, over (B, C, H, W): so that all are timed alike."""
    return _laid_out(net, torch.contiguous_format)


def _laid_out(net: Net, memory_format: torch.memory_format) -> Net:
    """Weights of other ranks, such as those of convolutions over (B, C, T, H, W), stay as they are."""
    for weight in chain(net.parameters(), net.buffers()):
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=memory_format)
    return net


def lay_out(net: Net, dtype: torch.dtype) -> Net:
    """The net in the layout that its device computes fastest in: channels last, with one exception.

    On a CPU in bfloat16, group norm takes ten times as long in channels last as convolutions save by it (figures stand
    in benchmarks/README.md): nets that have it stay as they are, but for their narrowest convolutions, which turn to
    channels last and back on their own.
    """
    grouped = any(isinstance(module, nn.GroupNorm) for module in net.modules())
    if not (grouped and dtype == torch.bfloat16 and device_of(net).type == "cpu"):
        return channels_last(net)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and max(module.in_channels, module.out_channels) < LANES:
            channels_last(module).register_forward_hook(_contiguous)
    return net


def _contiguous(module: nn.Module, args: Any, out: Tensor) -> Tensor:
    return out.contiguous()


def device_of(net: Net) -> torch.device:
    """Where a net lies; the CPU for one without weights."""
    return next((t.device for t in chain(net.parameters(), net.buffers())), torch.device("cpu"))


@contextmanager
def evaluating(net: Net, *, inference: bool = True) -> Iterator[None]:
    """The net in evaluation mode and no gradients; its modes are left as they were.

    Without ``inference`` mode what the net keeps of a call can still be trained with.
    """
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.inference_mode() if inference else torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class Autocast(nn.Module):
    """A net that computes in another dtype under autocast and answers in float32."""

    def __init__(self, net: Net, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.device, self.dtype = net, device, dtype
        self.conditions = conditions_of(net)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The net's answer to ``x`` ``(B, C, H, W)`` in float32."""
        with self.computing():
            out: Tensor = self.net(x, **cond)
        return out.float()

    def computing(self) -> AbstractContextManager[None]:
        """While open, its net called by itself computes likewise, and answers in that dtype."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def part(self, path: str) -> "Autocast":
        """The module at a dotted path of the net, computing likewise."""
        return Autocast(self.net.get_submodule(path), self.device, self.dtype)
