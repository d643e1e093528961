"""What training takes of memory, counted by configurations alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import call, learner_of

from kdgen.models.model import build_net, load
from kdgen.models.weightless import bundled, weightless
from kdgen.recipe import Memory, Recipe, parse
from kdgen.registry import Spec
from kdgen.training import fitting
from kdgen.training.footprint import Footprint, Live, footprint, num_bytes
from kdgen.types import Batch, Task

NET = Spec(name="unet2d", args={"block_out_channels": [8, 16], "size": 8})


def recipe(**more: Any) -> Recipe:
    return parse({"name": "t", "task": {"name": "diffuse", "args": {"size": 8}}, "student": NET.model_dump(),
                  "steps": 5, "batch_size": 2, "precision": "float32", "cache": {"inputs": 0}, **more})  # fmt: skip


def test_weights_gradients_and_states_are_those_of_a_step_that_is_taken() -> None:
    student = build_net(NET, 1, {"name": "diffuse", "size": 8})[0]
    size = sum(p.nbytes for p in student.parameters())
    batch = Batch(x=torch.zeros(2, 1, 8, 8), y=torch.zeros(2, 1, 8, 8), cond={"sigma": torch.ones(2)})

    class Squared(Task):
        def loss(self, out: torch.Tensor, batch: Batch) -> torch.Tensor:
            return (out - batch.y).square().mean((1, 2, 3))

    learner = learner_of({}, student, None, batch, Squared())
    learner.step(batch, None, number=0, progress=0, retries=0)
    assert learner.optimizer is not None
    kept = [each for part in learner.optimizer.parts for state in part.state.values() for each in state.values()]
    found = footprint(recipe(), {})
    assert (found.student, found.average, found.gradients, found.masters) == (size, size, size, 0)
    assert found.states == sum(map(num_bytes, kept))
    assert found.step > 10 * batch.x.nbytes
    assert found.total == sum(found.model_dump().values())


def test_a_model_of_the_hub_is_counted_without_its_weights() -> None:
    name = "stabilityai/stable-diffusion-3-medium-diffusers"
    with weightless(bundled()):
        decoder = load(f"hub:{name}/vae#decoder").net
    assert sum(p.numel() for p in decoder.parameters()) == 49_545_475
    with Live() as live:
        assert sum(live.count(decoder.parameters()).values()) == live.live == 4 * 49_545_475
    assert isinstance(torch.nn.Linear(2, 2).weight.sum().item(), float), "modules have weights again"


def test_of_a_student_in_slices_each_process_holds_its_share() -> None:
    whole = footprint(recipe(batch_size=1), {})
    slices = footprint(recipe(shard_student=True), {}, processes=2)
    for part in ("student", "average", "gradients", "states"):
        assert getattr(slices, part) == getattr(whole, part) // 2
    assert whole.step < slices.step < whole.step + 3 * whole.student + whole.student // 100, "blocks put together"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Memory]:
    """Memory in which a step takes 100 GiB, and every switch saves a third of what is left."""
    asked: list[Memory] = []

    def count(recipe: Recipe, folders: Any, *, parts: int = 1, processes: int = 1) -> Footprint:
        asked.append(recipe.memory)
        switches = sum(value != default for (_, value), (_, default) in zip(recipe.memory, Memory(), strict=True))
        step = int(100 * 2**30 * (2 / 3) ** (switches + (parts > 1)) / processes)
        return Footprint(teacher=0, task=0, student=0, masters=0, average=0, terms=0, gradients=0, states=0, step=step)

    monkeypatch.setattr(fitting, "footprint", count)
    monkeypatch.setattr(fitting, "find_spec", lambda name: name)
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path))
    return asked


def test_switches_are_tried_in_turn_until_each_gpu_is_fitted(counted: list[Memory]) -> None:
    found = fitting.fit(recipe(precision="auto"), {})
    roomy, tight = found.fitting[80], found.fitting[24]
    assert roomy is not None
    assert tight is not None
    assert found.own.memory == Memory()
    assert roomy.memory == Memory(checkpointing=True)
    assert tight.memory == Memory(checkpointing=True, optimizer_states="int8", weights="bfloat16")
    assert tight.parts == 2
    times = len(counted)
    assert fitting.fit(recipe(precision="auto"), {}) == found
    assert len(counted) == times, "what was counted is kept"
    assert fitting.fit(recipe(precision="auto"), {}, gpus=[8]).fitting == {8: None}


def test_the_command_says_what_to_switch_on(counted: list[Memory], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", "sd3-vae-decoder") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "80 GiB: fits with --set memory.checkpointing=true" in shown
    assert "24 GiB: fits with" in shown
    assert "Counted by configurations alone" in shown
    assert call("plan", "sd3-vae-decoder", "--json") == 0
    assert json.loads(capsys.readouterr().out)["own"]["footprint"]["step"] == 100 * 2**30
    assert call("plan", "denoise", "--config", "nowhere") == 2
    assert call("plan", "sd3-vae-decoder", "--processes", "2") == 0
    assert "each of 2 GPUs of 80 GiB: fits as it is, 50.0 GiB" in " ".join(capsys.readouterr().out.split())
