"""Those who do the same distillation: kdgen, loops written by hand, and other libraries."""

import contextlib
import importlib
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from workloads import Workload

from kdgen import distill, load
from kdgen.models.model import build_net
from kdgen.recipe import CacheSpec
from kdgen.registry import build
from kdgen.training.loss import make_losses
from kdgen.training.run_log import Journal
from kdgen.types import Batch
from kdgen.utils.conditions import call, conditions_of
from kdgen.utils.devices import pick_device
from kdgen.utils.hooks import capture_outputs
from kdgen.utils.seed import derive


@dataclass(frozen=True, slots=True)
class Trained:
    """What a contender did in a round: seconds a step, the student, and the seconds that came once, before."""

    seconds: float
    student: nn.Module
    before: float = 0.0


Contender = Callable[[Workload, int], Trained]


class Start:
    """What every contender begins with, as kdgen does for this recipe and seed, on its device."""

    def __init__(self, work: Workload, seed: int) -> None:
        recipe = work.recipe
        self.task = build("task", recipe.task)
        self.device = pick_device(recipe.device)
        self.teacher = work.teacher.to(self.device)
        torch.manual_seed(derive(recipe.seed, "weights"))
        self.student = build_net(recipe.student, self.task.channels)[0].to(self.device).train()
        self.batches = self.task.batches(batch_size=recipe.batch_size, seed=derive(recipe.seed, "data", 0))
        self.lr = recipe.stages[0].lr
        names = [use.name for use in recipe.stages[0].methods]
        self.output = F.l1_loss if recipe.stages[0].methods[0].args.get("loss") == "l1" else F.mse_loss
        self.pairs: list[tuple[str, str]] = []
        self.regressors = nn.ModuleList()
        if "feature" in names:
            probe = next(self.task.batches(batch_size=2, seed=recipe.seed)).to(self.device)
            method = make_losses(recipe, self.task, self.student, self.teacher, probe)[0].methods["0.1.feature"]
            self.pairs = [(pair.student.path, pair.teacher.path) for pair in method.pairs]
            self.regressors = method.regressors

    def batch(self) -> Batch:
        """The next batch, where the nets are."""
        return next(self.batches).to(self.device)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over the student and the regressors, as everybody makes it."""
        return torch.optim.AdamW([*self.student.parameters(), *self.regressors.parameters()], self.lr, weight_decay=0.0)

    def loss(self, batch: Batch, student: Tensor, teacher: Tensor) -> Tensor:
        """The output term, weighted where the task weights its images."""
        if batch.weight is None:
            return self.output(student, teacher)
        return (batch.weight * self.output(student, teacher, reduction="none").mean((1, 2, 3))).mean()


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square between features, in units of the teacher's root mean square."""
    student, teacher = student.float(), teacher.float()
    return F.mse_loss(student, teacher) / teacher.square().mean().clamp_min(1e-12)


def hand_written(work: Workload, seed: int, *, bfloat16: bool = False, backend: str | None = None) -> Trained:
    """The loop everybody writes: hooks for features, the teacher under ``no_grad``, the loss read at every step.

    Args:
        work: what to do.
        seed: as every contender takes it; the recipe's own decides.
        bfloat16: under autocast, channels last.
        backend: of ``torch.compile`` for both nets; they are compiled before the steps. None runs them as they are.
    """
    start = Start(work, seed)
    student, teacher, regressors = start.student, start.teacher, start.regressors
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    student.to(memory_format=layout)
    teacher.to(memory_format=layout)
    optimizer = start.optimizer()
    ours, theirs = [pair[0] for pair in start.pairs], [pair[1] for pair in start.pairs]
    asked: nn.Module = teacher if backend is None else Compiled(teacher, backend)
    learning: nn.Module = student if backend is None else Compiled(student, backend)

    def backward(batch: Batch) -> Tensor:
        with torch.autocast(start.device.type, torch.bfloat16, enabled=bfloat16):
            with torch.no_grad(), capture_outputs(teacher, theirs) as wanted:
                target = call(asked, batch.x, batch.cond)
            with capture_outputs(student, ours) as seen:
                out = call(learning, batch.x, batch.cond)
        loss = start.loss(batch, out.float(), target.float())
        if ours:
            parts = [
                feature_loss(regressor(seen[a].float()), wanted[b])
                for regressor, a, b in zip(regressors, ours, theirs, strict=True)
            ]
            loss = loss + torch.stack(parts).mean()
        optimizer.zero_grad()
        loss.backward()
        return loss

    began = time.perf_counter()
    if backend is not None:
        backward(next(start.task.batches(batch_size=work.recipe.batch_size, seed=1)).to(start.device)).item()
    before = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(work.steps):
        loss = backward(start.batch())
        optimizer.step()
        loss.item()
    seconds = (time.perf_counter() - began) / work.steps
    teacher.to(memory_format=torch.contiguous_format)
    return Trained(seconds, student, before)


class Compiled(nn.Module):
    """A net as ``torch.compile`` makes it, which reads the conditions that the net reads."""

    def __init__(self, net: nn.Module, backend: str) -> None:
        super().__init__()
        self.conditions, self._compiled = conditions_of(net), (torch.compile(net, backend=backend),)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """What the net gives."""
        out: Tensor = self._compiled[0](x, **cond)
        return out


class Criterion(nn.modules.loss._Loss):
    """A loss of one pair of layers as modelopt takes it, with the regressor inside."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], regressor: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.regressor = loss, regressor or nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of what the student's layer gave against the teacher's."""
        return self.loss(self.regressor(student), teacher)


class Held(nn.Module):
    """A net inside another: modelopt adds parts to the module it is given, which a chain of layers would run."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """What the net gives."""
        return call(self.net, x, cond)


def modelopt(work: Workload, seed: int, *, bfloat16: bool = False) -> Trained:
    """The plain loop around a student that NVIDIA's modelopt has made a distillation model of."""
    from modelopt.torch import distill as mtd

    start = Start(work, seed)
    now: list[Batch] = []
    criterion = {("", ""): Criterion(lambda student, teacher: start.loss(now[-1], student, teacher))}
    for (a, b), regressor in zip(start.pairs, start.regressors, strict=True):
        criterion[(f"net.{a}", f"net.{b}")] = Criterion(feature_loss, regressor)

    class Balance(mtd.DistillationLossBalancer):
        """The output term and the mean of the feature terms."""

        def forward(self, losses: dict[str, Tensor]) -> Tensor:
            output, *features = losses.values()
            return output + torch.stack(features).mean() if features else output

    config = {"teacher_model": Held(start.teacher), "criterion": criterion, "loss_balancer": Balance()}
    optimizer = start.optimizer()
    model = mtd.convert(Held(start.student), mode=[("kd_loss", config)])
    model.train()
    began = time.perf_counter()
    for _ in range(work.steps):
        now[:] = [start.batch()]
        with torch.autocast(start.device.type, torch.bfloat16, enabled=bfloat16):
            model(now[0].x, **now[0].cond)
            loss = model.compute_kd_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    seconds = (time.perf_counter() - began) / work.steps
    return Trained(seconds, mtd.export(model).net)


def kdgen(work: Workload, seed: int, *, precision: str = "auto", cached: bool = False) -> Trained:
    """The recipe, run as a user runs it up to the end of training.

    What comes once is the teacher's answers, where they are cached, and what the loop tries before its first step.
    """
    folder = Path(tempfile.mkdtemp())
    inputs = work.steps * work.recipe.batch_size if cached else 0
    cache = CacheSpec(inputs=inputs, dir=str(folder / "cache"), seed=derive(work.recipe.seed, "data", 0), augment=False)
    recipe = work.recipe.lasting(steps=work.steps).model_copy(update={"cache": cache, "precision": precision})
    training = before = 0.0
    for event in distill(recipe, folder / "run", teacher=work.teacher):
        if event.kind == "answers":
            before = event.data["seconds"]
        if event.kind == "phase":
            training = event.data["seconds"] - event.data["tried"]
            before += event.data["tried"] + Journal(folder / "run").phase("student").trying
            break
    student = load(folder / "run" / "student").net
    shutil.rmtree(folder)
    return Trained(training / work.steps, student, before)


def contenders() -> tuple[dict[str, Contender], dict[str, str]]:
    """Who takes part, and why those do not that were asked to."""
    libraries = {"modelopt": "modelopt.torch.distill", "torchdistill": "torchdistill.core.distillation"}
    absent = {}
    for name, module in libraries.items():
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                importlib.import_module(module)
        except ImportError as error:
            absent[name] = str(error)
    if "torchdistill" not in absent:
        absent["torchdistill"] = "it imports, but this benchmark has no loop for it"
    everyone: dict[str, Contender] = {
        "plain": hand_written,
        "plain bfloat16": lambda work, seed: hand_written(work, seed, bfloat16=True),
        "modelopt": modelopt,
        "kdgen float32": lambda work, seed: kdgen(work, seed, precision="float32"),
        "kdgen": kdgen,
        "kdgen int8": lambda work, seed: kdgen(work, seed, precision="int8"),
        "kdgen cached": lambda work, seed: kdgen(work, seed, cached=True),
    }
    return {name: run for name, run in everyone.items() if name not in absent}, absent
