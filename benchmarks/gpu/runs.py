"""Whole runs on a device: repeated, interrupted, moved, from cached answers, in mixed precision; and bundled models."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu.ledger import Item, Outcome, Setup
from kdgen import Recipe, distill, load, resume
from kdgen.recipe import parse
from kdgen.registry import build
from kdgen.training.train_step import Learner
from kdgen.types import Event
from kdgen.utils.conditions import call
from kdgen.utils.devices import bfloat16_pays, convolution_seconds, evaluating, pick_device
from kdgen.utils.distributed import Team

SAME = 1e-3
"""Most that weights of two runs may be apart, of themselves, where one was interrupted."""
MOVED = 1e-2
"""The same where some steps were taken on another device."""
ANSWERS = 5e-3
"""Most that answers may be apart, of their deviation: kept ones are rounded to 16 bits, and computed with TF32."""
ROUNDED = 0.05
"""The same for what is computed in bfloat16."""


def recipe(setup: Setup, cache: Path) -> Recipe:
    """A small student of the bundled denoiser, from dead leaves, whose weights depend smoothly on rounding."""
    return parse({
        "name": "runs", "teacher": "denoiser",
        "task": {"name": "denoise", "args": {"sigma": 25, "patch": 16 if setup.quick else 48}},
        "student": {"name": "dncnn", "args": {"depth": 3, "width": 16}},
        "stages": [{"methods": [{"name": "output"}], "optimizer": "sgd", "lr": 0.05}],
        "steps": 8 if setup.quick else 60, "batch_size": 4 if setup.quick else 16, "precision":
        "float32", "cache": {"inputs": 16 if setup.quick else 128, "dir": str(cache)}, "repeatable": True,
        "controls": False, "evaluate_every": None, "checkpoint_every": 1e-6, "device": setup.device,
    })  # fmt: skip


def trained(events: Iterator[Event], until: Callable[[Event], bool] = lambda event: False) -> Event:
    """Train to the end of the student's phase, or until an event; nothing is measured."""
    for event in events:
        if event.kind in ("phase", "stopped") or until(event):
            return event
    raise AssertionError("a run ended without a phase")


def weights(folder: Path) -> Tensor:
    """What a run's student has learnt, in a row."""
    return torch.cat([p.detach().double().flatten() for p in load(folder / "student").net.parameters()])


def apart(one: Tensor, other: Tensor) -> float:
    """How far tensors are apart, as a share of the second one's length."""
    return float((one.double() - other.double()).norm() / other.double().norm().clamp_min(1e-12))


def interrupted(folder: Path, whole: Recipe) -> None:
    """Begin a run and leave it half way."""
    running = distill(whole, folder)
    half = (whole.steps or 0) // 2
    trained(running, lambda event: event.kind == "checkpoint" and event.step >= half)
    running.close()


def items(setup: Setup) -> Iterator[Item]:
    """Everything that is tried."""
    device, folder = pick_device(setup.device), setup.scratch
    plain = recipe(setup, folder / "cache")
    beside = plain.model_copy(update={"cache": plain.cache.model_copy(update={"inputs": 0})})

    def precision() -> Outcome:
        each = {name: 1e6 * convolution_seconds(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
        figures = {f"convolution in {name} (us)": value for name, value in each.items()}
        return Outcome(figures={**figures, "bfloat16 pays": bfloat16_pays(device)})

    def repeated() -> Outcome:
        seen = []
        for name in ("first", "again"):
            trained(distill(plain, folder / name))
            seen.append(weights(folder / name))
        return Outcome(apart={"weights": (apart(seen[1], seen[0]), 0.0)}, note="bit for bit, as `repeatable` promises")

    def resumed() -> Outcome:
        interrupted(folder / "resumed", plain)
        trained(resume(folder / "resumed"))
        return Outcome(apart={"weights": (apart(weights(folder / "resumed"), weights(folder / "first")), SAME)})

    def moved() -> Outcome:
        interrupted(folder / "moved", plain)
        told = json.loads((folder / "moved" / "recipe.json").read_text())
        (folder / "moved" / "recipe.json").write_text(json.dumps({**told, "device": "cpu"}))
        trained(resume(folder / "moved"))
        return Outcome(apart={"weights": (apart(weights(folder / "moved"), weights(folder / "first")), MOVED)})

    def cached() -> Outcome:
        shards = [load_file(path) for path in sorted((folder / "cache").rglob("*.safetensors"))]
        kept = {name: torch.cat([shard[name] for shard in shards]).float() for name in ("x", "output", "cond.sigma")}
        net = load("denoiser").net
        with evaluating(net):
            exact = call(net, kept["x"], {"sigma": kept["cond.sigma"]})
        noise = float((kept["output"] - exact).square().mean().sqrt() / exact.std())
        found = next(event for event in distill(plain, folder / "cached") if event.kind == "answers")
        disk = 0.0 if found.data["from_disk"] else 1.0
        return Outcome(apart={"answers": (noise, ANSWERS), "answers asked again": (disk, 0.0)})

    def asked() -> Outcome:
        event = trained(distill(beside, folder / "asked"))
        return Outcome(figures={"steps": event.data["steps"]}, note="the teacher at every step")

    def mixed() -> Outcome:
        trained(distill(beside.model_copy(update={"precision": "bfloat16"}), folder / "mixed"))
        batch = next(build("task", plain.task).batches(batch_size=16, seed=1))
        nets = [load(folder / name).net for name in ("mixed/student", "asked/student")]
        answers = []
        for net in nets:
            with evaluating(net):
                answers.append(call(net, batch.x, batch.cond))
        off = float((answers[0] - answers[1]).square().mean().sqrt() / answers[1].std())
        return Outcome(apart={"answers after training": (off, ROUNDED)}, note=in_bfloat16(plain, device))

    yield Item("precision", precision)
    yield Item("repeated", repeated)
    yield Item("interrupted and resumed", resumed)
    yield Item("resumed on the CPU", moved)
    yield Item("cached answers", cached)
    yield Item("asked at every step", asked)
    yield Item("mixed precision", mixed)
    for name in ("denoiser", "vae", "gan", "diffusion"):
        yield Item(f"model {name}", partial(modelled, name, device, quick=setup.quick))


def in_bfloat16(plain: Recipe, device: torch.device) -> str:
    """A sentence on what a student's step computes in; an error where that is not bfloat16 with weights in float32."""
    task = build("task", plain.task)
    probe = next(task.batches(batch_size=2, seed=0))
    student = build("net", plain.student)
    alone = plain.without_teacher(steps=1)
    learner = Learner(alone, task=task, student=student, teacher=None, probe=probe, device=device, dtype=torch.bfloat16,
                      team=Team("cpu"))  # fmt: skip
    seen: list[torch.dtype] = []
    first = next(module for module in learner.student.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    learner.enter(0)
    loss = learner.step(probe, None, number=0, progress=0.0, retries=0)["loss"]
    held = {p.dtype for p in learner.student.parameters()}
    assert seen[-1] == torch.bfloat16, f"a convolution computed in {seen[-1]}"
    assert held == {torch.float32}, f"weights are held in {held}"
    assert torch.isfinite(torch.as_tensor(loss)), f"the loss is {loss}"
    return "convolutions in bfloat16, weights in float32"


def modelled(name: str, device: torch.device, *, quick: bool) -> Outcome:
    """A bundled model there and on the CPU."""
    answers = []
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for where in (device, torch.device("cpu")):
            model = load(name).to(where)
            if name in ("gan", "diffusion"):
                answers.append(model.draw(2 if quick else 16, seed=1, num_steps=2 if name == "diffusion" else None))
            else:
                side = 32 if quick else 96
                x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
                answers.append(model.restore(x, 25.0 if name == "denoiser" else None).cpu())
    off = float((answers[0] - answers[1]).square().mean().sqrt() / answers[1].std())
    return Outcome(apart={"answers": (off, ANSWERS)})
