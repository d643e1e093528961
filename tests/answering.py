"""Teachers that are asked for caches of answers, and the caches."""

from pathlib import Path

import torch
from torch import Tensor, nn

from kdgen.recipe import CacheSpec
from kdgen.registry import Spec, build
from kdgen.tasks import Denoise
from kdgen.training.teacher import Teacher
from kdgen.training.teacher_cache import TeacherCache

CPU = torch.device("cpu")


class Negative(nn.Module):
    """A teacher that commutes with flips and rotations, and whose feature is twice its input."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.twice.weight, 2.0)
        self.calls = 0

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        self.calls += 1
        return -self.twice(x) / 2


class Lopsided(nn.Module):
    """A teacher as training leaves them: its filters have directions, and its borders are not its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).relu())
        return out


def task(**args: object) -> Denoise:
    made: Denoise = build("task", Spec(name="denoise", args={"sigma": 25, "patch": 16, **args}))  # type: ignore[dict-item]
    return made


def cache(folder: Path, net: nn.Module, *, paths: tuple[str, ...] = (), **spec: object) -> TeacherCache:
    probe = next(task().batches(batch_size=2, seed=0))
    teacher = Teacher(net, probe, device=CPU, bfloat16=False)
    return TeacherCache(task(), CacheSpec(dir=str(folder), **{"inputs": 40, **spec}), teacher=teacher, paths=paths)  # type: ignore[arg-type]
