"""Devices by name, and nets that compute in another dtype."""

import os
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from kdgen.types import UserError
from kdgen.utils.devices import Autocast, OtherWork, bfloat16_pays, channels_last, lay_out, pick_device

CPU = torch.device("cpu")


def test_devices_by_name() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in {"cpu", "cuda", "mps", "xpu"}
    for absent in ("cuda:99", "abacus"):
        with pytest.raises(UserError, match=f"no device '{absent}' here"):
            pick_device(absent)


def test_autocast_computes_in_bfloat16_and_answers_in_float32() -> None:
    torch.manual_seed(0)
    net, x = nn.Conv2d(1, 8, 3), torch.randn(2, 1, 9, 9)
    fast, exact = Autocast(net, CPU, torch.bfloat16)(x), Autocast(net, CPU, torch.float32)(x)
    assert fast.dtype == exact.dtype == torch.float32
    assert torch.equal(exact, net(x))
    assert torch.equal(fast, fast.bfloat16().float())
    assert 0 < (fast - exact).abs().max() < 0.05


def test_layout_changes_no_answer() -> None:
    torch.manual_seed(0)
    net, x = nn.Conv2d(4, 8, 3), torch.randn(2, 4, 9, 9)
    before = net(x)
    after = channels_last(net)
    assert after.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(after(x), before)


def test_whether_bfloat16_pays_is_settled_once() -> None:
    assert bfloat16_pays(CPU) is bfloat16_pays(CPU)


def test_narrow_convolutions_between_group_norms_go_channels_last_alone() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(8, 8, 3), nn.GroupNorm(4, 8)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.SiLU(), conv, nn.Conv2d(8, 32, 3)).double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    before = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    out = lay_out(net, torch.bfloat16)(x)
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), list(net.parameters())), before)
    assert [_channels_last(layer) for layer in net if isinstance(layer, nn.Conv2d)] == [True, True, False]
    assert net[:4](x).is_contiguous()
    assert all(map(_channels_last, lay_out(net, torch.float32)[3:]))


def _channels_last(layer: nn.Conv2d) -> bool:
    return layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_other_programs_at_work_are_noticed() -> None:
    own = OtherWork()
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        pass
    alone = own.cores()
    others = OtherWork()
    spin = "import time; until = time.monotonic() + 1.0\nwhile time.monotonic() < until: pass"
    process = subprocess.Popen([sys.executable, "-S", "-c", spin])
    time.sleep(0.8)
    beside = others.cores()
    process.wait()
    assert beside > 0.3
    assert beside >= alone - 0.7, "what this process does is its own"
    assert not OtherWork().crowds(0.1)
    assert OtherWork().crowds(float(os.cpu_count() or 1))
