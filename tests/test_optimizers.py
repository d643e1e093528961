"""Muon on convolutions against its definition."""

import pytest
import torch
from torch import nn

from kdgen.optimizers import Optimizer
from kdgen.recipe import Stage


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_steps_inner_convolutions_by_nearly_orthogonal_matrices(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3)).to(memory_format=layout)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = Optimizer(Stage(optimizer="muon"), net, [])
    net(torch.randn(64, 1, 9, 9)).mul(torch.randn(64, 32, 5, 5)).mean().backward()
    optimizer.step(1e-2)
    moved = [after.detach() - was for after, was in zip(net.parameters(), before, strict=True)]
    assert all(m.abs().max() > 0 for m in moved)
    singular = torch.linalg.svdvals(moved[2].flatten(1)) / (1e-2 * 0.2 * (16 * 9) ** 0.5)
    assert 0.6 < singular[:24].min() <= singular.max() < 1.3
    assert torch.allclose(moved[0].abs(), torch.full_like(moved[0], 1e-2), atol=1e-3)
    assert all(p.grad is None for p in net.parameters())


def test_muon_learns_the_same_in_either_layout() -> None:
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)).to(memory_format=layout)
        optimizer = Optimizer(Stage(optimizer="muon"), net, [])
        x = torch.randn(4, 1, 8, 8)
        for _ in range(5):
            net(x).square().mean().backward()
            optimizer.step(1e-2)
        results.append(net(x).detach())
    torch.testing.assert_close(*results, atol=2e-2, rtol=0)
