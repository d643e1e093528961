"""Two steps of all that a student can be trained with, on a device and on the CPU."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gpu.ledger import Item, Outcome, Setup
from kdgen import registry
from kdgen.recipe import parse
from kdgen.training.teacher import Teacher
from kdgen.training.train_step import Learner
from kdgen.types import Batch, Task
from kdgen.utils.devices import pick_device
from kdgen.utils.distributed import Team

STEPS = 2
FIGURES = 2e-3
"""Most that a loss may be off, of itself."""
WEIGHTS = 1e-2
"""Most that what the steps changed may be off, of itself."""
ROUNDED = 0.1
"""The same for optimisers that look at signs or compute in bfloat16, where little falls either way."""

GAME = {"width": 4, "penalty": 0.1}
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    ("method", "adversarial"): GAME,
    ("method", "drawn_adversarial"): GAME,
    ("method", "feature"): {"pairs": [["head", "head"]]},
    ("objective", "adversarial"): GAME,
}
"""What small nets need, and what makes a term do all that it can."""

OUTPUT = {"name": "output"}
Spec = Mapping[str, Any]


class Net(nn.Module):
    """A denoiser of colour images with all that some term looks for: moments, blocks, a second time, an autoencoder."""

    together = "tail"

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.down_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.SiLU())])
        self.moments = nn.Conv2d(width, 16, 3, padding=1)
        self.tail = nn.ConvTranspose2d(16, 9, 4, 2, 1)

    def forward(self, x: Tensor, *, sigma: Tensor, until: Tensor | None = None) -> Tensor:
        """``(B, 3, H, W)`` to the same; ``sigma`` and ``until`` are ``(B,)``."""
        level = sigma.view(-1, 1, 1, 1)
        size = (level**2 + 0.25).sqrt()
        told = level.log() / 4 if until is None else level.log() / 4 + until.view(-1, 1, 1, 1) / (1 + level)
        hidden = self.moments(self.down_blocks[0](self.head(x / size) + told))
        said, _, _ = self.tail(torch.tanh(hidden)).chunk(3, dim=1)
        out: Tensor = 0.25 / size**2 * x + level * 0.5 / size * said
        return out


class Truth(Task):
    """A task whose truth is known."""

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """The squared error, ``(B,)``."""
        assert batch.y is not None
        return (out - batch.y).square().flatten(1).mean(1)


def batch_of(number: int) -> Batch:
    """Noisy images, their truth, their levels, and other images."""
    random = torch.Generator().manual_seed(number)
    y, real = torch.rand(2, 4, 3, 16, 16, generator=random) * 2 - 1
    sigma = torch.rand(4, generator=random) + 0.1
    x = y + sigma.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=random)
    return Batch(x=x, y=y, real=real, cond={"sigma": sigma})


class SameDraws(TorchFunctionMode):
    """Random numbers are drawn on the CPU and brought to where they are wanted: the same ones for every device."""

    fresh: tuple[Callable[..., Tensor], ...] = (torch.rand, torch.randn, torch.randint, torch.randperm)
    like: Mapping[Callable[..., Tensor], Callable[..., Tensor]] = {
        torch.rand_like: torch.rand, torch.randn_like: torch.randn,
    }  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As torch calls it."""
        told = dict(kwargs or {})
        if func in self.like:
            what, where = args[0], told.get("device")
            drawn = self.like[func](what.shape, dtype=told.get("dtype") or what.dtype)
            return drawn.to(what.device if where is None else where)
        if func in self.fresh and told.get("generator") is None and told.get("device") is not None:
            where = told.pop("device")
            return func(*args, **told).to(where)
        return func(*args, **told)


@dataclass(frozen=True, slots=True)
class Steps:
    """What two steps gave: the figures of each, and by how much each weight of the student moved."""

    figures: list[dict[str, float]]
    moved: Tensor


def taken(stage: Spec, device: torch.device, *, taught: bool) -> Steps:
    """The steps of a stage, from the same weights every time."""
    torch.manual_seed(0)
    student, teacher, probe = Net(), Net(24), batch_of(0)
    recipe = parse({"name": "steps", "task": {"name": "denoise"}, "teacher": "none" if taught else None,
                    "student": {"name": "dncnn"}, "stages": [stage], "steps": STEPS})  # fmt: skip
    asked = Teacher(teacher, probe, device=device) if taught else None
    task: Any = Truth()
    learner = Learner(recipe, task=task, student=student, teacher=asked, probe=probe, device=device,
                      dtype=torch.float32, team=Team("cpu"))  # fmt: skip
    learner.enter(0)
    before, figures = _weights(learner), []
    for number in range(STEPS):
        told = learner.step(batch_of(number + 1), None, number=number, progress=number / STEPS, retries=0)
        figures.append({key: float(value) for key, value in told.items()})
    return Steps(figures, _weights(learner) - before)


def _weights(learner: Learner) -> Tensor:
    return torch.cat([p.detach().double().cpu().flatten() for p in learner.student.parameters()])


def compared(stage: Spec, device: torch.device, *, taught: bool, weights: float = WEIGHTS) -> Outcome:
    """How far the steps there are from those on the CPU."""
    with SameDraws(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        there, here = (taken(stage, where, taught=taught) for where in (device, torch.device("cpu")))
    each = [
        abs(ours[key] - value) / (abs(value) + 1e-4)
        for ours, theirs in zip(there.figures, here.figures, strict=True)
        for key, value in theirs.items()
    ]
    losses = max(each) if all(map(math.isfinite, each)) else math.nan
    moved = float((there.moved - here.moved).norm() / here.moved.norm().clamp_min(1e-12))
    return Outcome(apart={"losses": (losses, FIGURES), "weights": (moved, weights)})


def documented(kind: registry.Kind, name: str) -> Iterator[dict[str, Any]]:
    """A term's arguments: its defaults, and each value that the types of its arguments name."""
    yield {}
    thing: Any = registry.get(kind, name)
    for argument, of in get_type_hints(thing.__init__).items():
        for value in _values(argument, of):
            if value != registry.default(kind, name, argument):
                yield {argument: value}


def _values(argument: str, of: Any) -> tuple[Any, ...]:
    if argument == "sampler":
        return ("consistency", "euler")  # the type names more than these terms take
    if get_origin(of) is Literal:
        return get_args(of)
    if get_args(of) and get_origin(get_args(of)[0]) is Literal:
        return tuple([value] for value in get_args(get_args(of)[0]))
    return (False, True) if of is bool else ()


def items(setup: Setup) -> Iterator[Item]:
    """Every registered method, objective and ratio, and every optimiser."""
    device = pick_device(setup.device)
    plain = {"optimizer": "sgd", "lr": 1e-2, "warmup": 0, "decay": "none"}
    kinds: tuple[registry.Kind, ...] = ("method", "objective")
    for kind in kinds:
        for name in registry.names(kind):
            for args in documented(kind, name):
                if setup.quick and args:
                    continue
                use = {"name": name, "args": {**NEEDED.get((kind, name), {}), **args}}
                told = ", ".join(f"{key}={value}" for key, value in args.items())
                run = partial(compared, {**plain, f"{kind}s": [use]}, device, taught=kind == "method")
                yield Item(f"{kind} {name} {told}".rstrip(), run)
    for name in registry.names("ratio"):
        stage = {**plain, "methods": [OUTPUT], "objectives": [{"name": "sharpness"}], "ratio": {"name": name}}
        yield Item(f"ratio {name}", partial(compared, stage, device, taught=True))
    for name in ("adamw", "sgd", "muon"):
        stage = {**plain, "methods": [OUTPUT], "optimizer": name}
        most = WEIGHTS if name == "sgd" else ROUNDED
        yield Item(f"optimizer {name}", partial(compared, stage, device, taught=True, weights=most))
