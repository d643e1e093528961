"""SPAN: trained wide, used narrow, and opened by what it holds."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdgen.metrics import cost
from kdgen.models.model import Model, load
from kdgen.models.nets.fold import folded
from kdgen.models.nets.span import SPAN, Conv3XC, span
from kdgen.registry import Spec


def drawn(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module


def test_the_merged_convolution_is_all_of_them_one_after_another() -> None:
    layer, x = Conv3XC(3, 5), torch.randn(2, 3, 7, 6)
    drawn(layer)
    expected = layer.conv(F.pad(x, [1] * 4)) + layer.sk(x)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.folded()(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_it_begins_near_the_enlarged_image(scale: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 9, 8) * 2 - 1
    with torch.inference_mode():
        apart = span(width=12, scale=scale)(x) - F.interpolate(x, scale_factor=scale)
    assert apart.abs().max() < 0.3


def test_its_cost_is_that_of_use() -> None:
    net, x = span(width=16, scale=2), torch.zeros(1, 3, 32, 32)
    plain = folded(net)
    assert not any(isinstance(part, Conv3XC) for part in plain.modules())
    assert cost.num_params(net) == sum(p.numel() for p in plain.parameters())
    assert 4 * cost.num_params(net) < sum(p.numel() for p in net.parameters())
    assert cost.macs(net, x) == cost.macs(plain, x)


@pytest.mark.skipif(find_spec("spandrel") is None, reason="no spandrel here: pip install 'kdgen[restorers]'")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_students_file_is_opened_by_its_weights_alone(channels: int, tmp_path: Path) -> None:
    import kdgen.tasks  # noqa: F401

    args = {"channels": channels, "width": 8, "scale": 2}
    net = span(**args)
    net.load_state_dict(drawn(net).state_dict())
    assert isinstance(net, SPAN)
    task = {"name": "restore", "damages": [{"name": "shrink", "args": {"scale": 2}}], "scale": 2}
    Model(net, name="mine", channels=channels, task=task, use=Spec(name="span", args=args)).save(tmp_path)
    opened = load(str(tmp_path / "model.safetensors"))
    assert (opened.channels, opened.task["scale"]) == (channels, 2)
    x = torch.rand(2, channels, 19, 26) * 1.6 - 0.8
    with torch.inference_mode():
        torch.testing.assert_close(opened.net(x), net(x).clamp(-1, 1), atol=1e-5, rtol=0)
        torch.testing.assert_close(load(tmp_path).net(x), net(x), atol=1e-6, rtol=0)
