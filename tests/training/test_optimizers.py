"""Muon on convolutions against its definition."""

import pytest
import torch
from torch import nn

from kdgen.recipe import Stage
from kdgen.training.muon import Muon
from kdgen.training.optimizers import MovingAverage, Optimizer
from kdgen.utils.hooks import last_weights


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


def test_muon_leaves_embeddings_the_output_layer_and_what_it_does_not_know_to_adamw() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 32)
            self.places = nn.Parameter(torch.zeros(20, 32))
            self.inner = nn.Linear(32, 32)
            self.tied = nn.Linear(32, 20)
            self.tied.weight = self.embedding.weight
            self.head = nn.Linear(32, 40)

        def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
            hidden = self.inner(self.embedding(x) + self.places)
            out: torch.Tensor = self.head(torch.relu(hidden) + self.tied(hidden) @ self.embedding.weight)
            return out

    net, x = Net(), torch.arange(20)[None]
    optimizer = Optimizer(Stage(optimizer="muon"), net, [], last_weights(net, x, {}))
    known = {id(p): name for name, p in net.named_parameters()}
    assert [known[id(p)] for p, _ in optimizer._matrices] == ["inner.weight"]
    net(x).square().mean().backward()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer.step(1e-2)
    assert all(not torch.equal(p, before[name]) for name, p in net.named_parameters())


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_weight_decay_is_apart_from_the_gradient(name: str) -> None:
    net = nn.Linear(16, 16, bias=False)
    nn.init.ones_(net.weight)
    optimizer = Optimizer(Stage(optimizer=name, lr=0.1, weight_decay=0.1), net, [])
    for _ in range(3):
        net.weight.grad = torch.zeros_like(net.weight)
        optimizer.step(0.1)
    torch.testing.assert_close(net.weight.detach(), torch.full((16, 16), 0.99**3))


def test_a_moving_average_is_torchs_with_its_decay_warmed_up() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    mine = MovingAverage(net, 0.6)

    def averaged(old: torch.Tensor, new: torch.Tensor, count: int) -> torch.Tensor:
        return old.lerp(new, 1 - min(0.6, (1 + int(count)) / (10 + int(count)))) if old.is_floating_point() else new

    torchs = torch.optim.swa_utils.AveragedModel(net, avg_fn=averaged, use_buffers=True)
    for _ in range(12):
        net(torch.randn(4, 3)).square().mean().backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad
        mine.update()
        torchs.update_parameters(net)
    for key, value in torchs.module.state_dict().items():
        torch.testing.assert_close(mine.net.state_dict()[key], value)
    again = MovingAverage(net, 0.6)
    again.load_state_dict(mine.state_dict())
    assert again.count == 12
    assert torch.equal(again.net[0].weight, mine.net[0].weight)


def test_muon_steps_as_torchs_does() -> None:
    torch.manual_seed(0)
    shapes = [(16, 40), (40, 16), (16, 40), (24, 24)]
    mine = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    torchs = [nn.Parameter(p.detach().clone()) for p in mine]
    pair = (
        Muon(mine, lr=0.02, weight_decay=0.1),
        torch.optim.Muon(torchs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for a, b in zip(mine, torchs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        for optimizer in pair:
            optimizer.step()
    for a, b in zip(mine, torchs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
