"""Folding changes nothing but the layers."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kdgen import registry
from kdgen.models.nets.fold import fold_norm, folded
from kdgen.registry import Spec
from kdgen.utils.conditions import call

Change = Callable[[nn.Module], nn.Module]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["dncnn", "ffdnet"])
def test_folding_is_exact_and_keeps_paths(with_statistics: Change, name: str, bias: bool) -> None:
    net = with_statistics(
        registry.build("net", Spec(name=name, args={"depth": 5, "width": 6, "norm": True, "bias": bias}))
    )
    x, sigma = torch.rand(2, 1, 9, 8).double(), torch.full((2,), 0.2).double()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    out = folded(net)
    assert torch.allclose(call(out, x, {"sigma": sigma}), call(net, x, {"sigma": sigma}), atol=1e-12)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in out.modules())
    assert [path for path, _ in out.named_modules()] == [path for path, _ in net.named_modules()]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    rebuilt = registry.build("net", out.use).double()
    rebuilt.load_state_dict(out.state_dict())
    assert torch.equal(call(rebuilt, x, {"sigma": sigma}), call(out, x, {"sigma": sigma}))


def test_nothing_to_fold_gives_an_equal_copy() -> None:
    net = registry.build("net", Spec(name="unet", args={"widths": [4, 6], "blocks": 1}))
    out = folded(net)
    assert out is not net
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in out.state_dict().items())


def test_batch_norm_is_folded_deep_inside_and_only_after_a_convolution(with_statistics: Change) -> None:
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2))
    net = with_statistics(nn.ModuleDict({"a": nn.Sequential(inner)}))
    out = fold_norm(net)
    kinds = [type(layer) for layer in out.get_submodule("a.0").children()]
    assert kinds == [nn.Conv2d, nn.Identity, nn.ReLU, nn.BatchNorm2d]
    x = torch.rand(1, 1, 6, 6).double()
    assert torch.allclose(out.get_submodule("a")(x), net.get_submodule("a")(x), atol=1e-12)


def test_parts_that_fold_themselves_do() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.a(x) + self.b(x)
            return out

        def folded(self) -> nn.Module:
            one = nn.Conv2d(1, 1, 1, bias=False)
            with torch.no_grad():
                one.weight.copy_(self.a.weight + self.b.weight)
            return one

    net, x = nn.Sequential(Twice(), nn.Sequential(Twice())), torch.rand(1, 1, 3, 3)
    out = folded(net)
    assert sum(p.numel() for p in out.parameters()) == 2
    assert torch.allclose(out(x), net(x), atol=1e-6)
