"""Devices by name, and nets that compute in another dtype."""

import pytest
import torch
from torch import nn

from kdgen.devices import Autocast, bfloat16_pays, channels_last, pick_device
from kdgen.types import UserError

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
