"""Every method and objective as the loop takes its steps, with every value that its documentation names."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from support import learner_of
from torch import Tensor, nn

import kdgen.methods
import kdgen.objectives  # noqa: F401
from kdgen import registry
from kdgen.types import Batch

GAME = {"width": 4, "penalty": 0.1}
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    ("method", "adversarial"): GAME,
    ("method", "drawn_adversarial"): GAME,
    ("method", "feature"): {"pairs": [["head", "head"]]},
    ("objective", "adversarial"): GAME,
}
NOT_FOR = {("method", "distribution_matching"): "average", ("method", "score_identity"): "average",
           ("method", "drawn_adversarial"): "average"}  # fmt: skip
"""Samplers are named by one type; these documents say which two of it they take."""


class Net(nn.Module):
    """A denoiser of colour images that has all that some term looks for: moments, blocks, a second time."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.down_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.SiLU())])
        self.moments = nn.Conv2d(width, 4, 3, padding=1)
        self.tail = nn.ConvTranspose2d(4, 3, 4, 2, 1)

    def forward(self, x: Tensor, *, sigma: Tensor, until: Tensor | None = None, **cond: Tensor) -> Tensor:
        level = sigma.view(-1, 1, 1, 1)
        size = (level**2 + 0.25).sqrt()
        told = level.log() / 4 if until is None else level.log() / 4 + until.view(-1, 1, 1, 1) / (1 + level)
        hidden = self.moments(self.down_blocks[0](self.head(x / size) + told))
        out: Tensor = 0.25 / size**2 * x + level * 0.5 / size * self.tail(torch.tanh(hidden))
        return out


class Truth:
    """A task with ground truth, or without."""

    def __init__(self, known: bool = True) -> None:
        self.known = known

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        return (out - batch.y).square().flatten(1).mean(1) if self.known else None


def batch_of(number: int) -> Batch:
    random = torch.Generator().manual_seed(number)
    y, real = torch.rand(2, 4, 3, 8, 8, generator=random) * 2 - 1
    sigma = torch.rand(4, generator=random) + 0.1
    x = y + sigma.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=random)
    return Batch(x=x, y=y, real=real, cond={"sigma": sigma})


def documented() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind and name of every term, with its defaults and with each value that the types of its arguments name."""
    for kind in ("method", "objective"):
        for name in registry.names(kind):
            thing: Any = registry.get(kind, name)
            if thing.__module__.startswith("kdgen."):
                yield kind, name, {}
                for argument, of in get_type_hints(thing.__init__).items():
                    for value in values(argument, of):
                        if value not in (NOT_FOR.get((kind, name)), registry.default(kind, name, argument)):
                            yield kind, name, {argument: value}


def values(argument: str, of: Any) -> tuple[Any, ...]:
    if argument == "every":
        return (1, 2, 3)
    if get_origin(of) is Literal:
        return get_args(of)
    if get_args(of) and get_origin(get_args(of)[0]) is Literal:
        return tuple([value] for value in get_args(get_args(of)[0]))
    return (False, True) if of is bool else ()


def stage_of(kind: str, *uses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {f"{kind}s": list(uses), "optimizer": "adamw", "lr": 1e-3, "warmup": 0, "decay": "none", **more}


def moved(before: list[Tensor], now: list[nn.Parameter]) -> bool:
    return any(not torch.equal(was, p) for was, p in zip(before, now, strict=True))


def seen(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


@pytest.mark.parametrize(
    ("kind", "name", "args"), [pytest.param(*each, id=f"{each[1]}-{each[2]}") for each in documented()]
)
def test_every_documented_value_trains_in_the_loop(kind: str, name: str, args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    use = {"name": name, "args": {**NEEDED.get((kind, name), {}), **args}}
    learner = learner_of(stage_of(kind, use), Net(), Net(6) if kind == "method" else None, batch_of(0), Truth())
    every = args.get("every", 1) if name in ("distribution_matching", "score_identity") else 1
    learner.enter(0)
    first = seen(list(learner.student.parameters()))
    for number in range(4):
        learner.parts = 2 if number > 1 else 1
        before, critics = seen(list(learner.student.parameters())), seen(learner.loss.critics)
        count = learner.average.count
        figures = learner.step(batch_of(number + 1), None, number=number, progress=number / 4, retries=0)
        assert all(torch.isfinite(torch.as_tensor(value)) for value in figures.values())
        assert "loss" in figures
        turn = number % every == 0
        assert learner.average.count - count == turn
        assert turn or not moved(before, list(learner.student.parameters()))
        assert not critics or moved(critics, learner.loss.critics)
    assert moved(first, list(learner.student.parameters()))
