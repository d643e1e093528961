"""Several processes that train one student: the same result as one, one writer, and an end when one of them is gone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import drain
from torch import nn

from kdgen.recipe import Recipe
from kdgen.training import run
from kdgen.types import Batch, TeacherOutput, UserError
from kdgen.utils.distributed import Team, together

Make = Callable[..., Recipe]
SCRIPT = [sys.executable, "-c", "from kdgen.__main__ import main; main()"]


def launch(*arguments: str, code: str = "", number: int = 2) -> list[subprocess.Popen[str]]:
    """As ``torchrun`` starts processes, without its watching over them: the command line, or a piece of code."""
    command = [sys.executable, "-c", code, *arguments] if code else [*SCRIPT, *arguments, "--quiet"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    known = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(number)}
    return [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env={**known, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"})
        for rank in range(number)
    ]  # fmt: skip


def test_two_processes_learn_what_one_learns_and_one_of_them_writes(make: Make, tmp_path: Path) -> None:
    stage = '{"methods": [{"name": "output"}], "optimizer": "sgd", "lr": 0.05}'
    recipe = make("controls=false", "batch_size=5", "steps=30", f"stages=[{stage}]")
    drain(run.distill(recipe, tmp_path / "one"))
    file = tmp_path / "recipe.json"
    file.write_text(recipe.to_json())
    processes = launch("distill", str(file), "--out", str(tmp_path / "two"))
    assert [process.wait(120) for process in processes] == [0, 0], [process.communicate()[1] for process in processes]
    one, two = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("phase") == [line["kind"] for line in lines].count("done") == 1


@pytest.mark.slow
def test_when_one_process_is_killed_the_other_ends_and_one_alone_goes_on(make: Make, tmp_path: Path) -> None:
    file, folder = tmp_path / "recipe.json", tmp_path / "run"
    file.write_text(make("controls=false", "steps=100000").to_json())
    first, second = launch("distill", str(file), "--out", str(folder))
    last = folder / "checkpoints" / "student" / "last.pt"
    began = time.monotonic()
    while not last.exists() and time.monotonic() - began < 120:
        time.sleep(0.05)
    time.sleep(0.3)
    second.send_signal(signal.SIGKILL)
    _, said = first.communicate(timeout=30)
    assert first.returncode == 2
    assert "another process of this run has ended" in said
    assert "Traceback" not in said
    assert second.wait() == -signal.SIGKILL
    recipe = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps({**recipe, "steps": torch.load(last)["step"] + 5}))
    (folder / run.BEGUN).unlink()  # so that the test ends soon: a begun run does not take another length
    assert drain(run.resume(folder))[-1].kind == "done"


@pytest.mark.slow
def test_a_teacher_in_slices_teaches_the_same(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    settings = ("controls=false", "batch_size=4", "steps=12", "cache.inputs=0")
    for name in ("whole", "slices"):
        file.write_text(make(*settings, *(["shard_teacher=true"] if name == "slices" else [])).to_json())
        processes = launch("distill", str(file), "--out", str(tmp_path / name))
        assert [process.wait(120) for process in processes] == [0, 0], [p.communicate()[1] for p in processes]
    whole, slices = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("whole", "slices"))
    for key, value in whole.items():
        torch.testing.assert_close(slices[key], value, atol=1e-5, rtol=1e-4)
    assert drain(run.resume(tmp_path / "slices"))[-1].kind == "done"  # alone, it holds the one slice there is


@pytest.mark.slow
def test_a_student_in_slices_learns_the_same_and_goes_on_in_as_many(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    stage = '{"methods": [{"name": "output"}], "optimizer": "sgd", "lr": 0.01, "clip": 0.05}'
    asked = ("controls=false", "batch_size=5", "steps=12", f"stages=[{stage}]", "memory.checkpointing=true")
    drain(run.distill(make(*asked), tmp_path / "whole"))
    file.write_text(make(*asked, "shard_student=true").to_json())
    processes = launch("distill", str(file), "--out", str(tmp_path / "slices"))
    assert [process.wait(240) for process in processes] == [0, 0], [p.communicate()[1] for p in processes]
    whole, slices = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("whole", "slices"))
    assert whole.keys() == slices.keys()
    for key, value in whole.items():
        torch.testing.assert_close(slices[key], value, atol=1e-5, rtol=1e-4)
    looks = [
        [each["data"]["psnr"] for line in (tmp_path / name / "metrics.jsonl").open()
         if (each := json.loads(line))["kind"] == "evaluate"]
        for name in ("whole", "slices")
    ]  # fmt: skip
    assert looks[0] == pytest.approx(looks[1], abs=0.01)
    shutil.rmtree(tmp_path / "slices" / "student")
    with pytest.raises(UserError, match="in slices of 2 processes, not of 1"):
        drain(run.resume(tmp_path / "slices"))


SLICED = """
import copy, torch
from kdgen.utils.distributed import Team
from kdgen.models.model import build_net
from kdgen.registry import Spec
torch.manual_seed(0)
net = build_net(Spec(name="unet", args={"widths": [8, 16], "blocks": 1}), 1)[0].requires_grad_(False)
team = Team("cpu")
sliced, x, sigma = team.sharded(copy.deepcopy(net)), torch.randn(2, 1, 9, 8), torch.tensor([0.1, 0.2])
for _ in range(2):
    torch.testing.assert_close(sliced(x, sigma=sigma), net(x, sigma=sigma))
team.barrier()
print(sum(p.to_local().numel() for p in sliced.parameters()) / sum(p.numel() for p in net.parameters()))
"""


LEARNING = """
import copy, os, sys, torch
from pathlib import Path
import kdgen.training.registered
from kdgen import recipe, registry
from kdgen.models.model import build_net
from kdgen.training.checkpoint import Checkpoints
from kdgen.training.train_step import Learner
from kdgen.utils.distributed import Team, held

made = recipe.read(Path(sys.argv[1]))
task = registry.build("task", made.task)
first, second = (batch for batch, _ in zip(task.batches(batch_size=4, seed=0), range(2)))
student = build_net(made.student, task.channels, task.describe())[0]
torch.manual_seed(0)
for p in student.parameters():
    torch.nn.init.normal_(p, std=0.2)
device = torch.device("cpu")
team, checkpoints = Team("cpu"), {}


def learner(sharded, team):
    net = copy.deepcopy(student)
    each = Learner(made.model_copy(update={"shard_student": sharded}), task=task, student=net, teacher=None,
                   probe=first, device=device, dtype=torch.float32, team=team)
    each.enter(0)
    return each


def learn(each, *batches):
    for number, batch in enumerate(batches):
        each.step(batch, None, number=number, progress=0.0, retries=0)


def weights(each):
    return each.averaged().state_dict()


sliced = learner(True, team)
learn(sliced, first)
kept = Checkpoints(Path(sys.argv[2]), team)
kept.save({"step": 1, **sliced.state_dict()})
learn(sliced, second)
told = weights(sliced)
again = learner(True, team)
again.load_state_dict(kept.load()[0])
learn(again, second)
resumed = weights(again)
if team.is_main_process:
    os.environ["WORLD_SIZE"] = "1"
    whole = learner(False, Team("cpu"))
    learn(whole, first, second)
    for key, value in weights(whole).items():
        torch.testing.assert_close(told[key], value, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(resumed[key], told[key], atol=0, rtol=0)
print(sum(held(p).numel() for p in sliced.student.parameters()) / sum(p.numel() for p in student.parameters()))
"""


def test_each_process_holds_its_slice_of_a_net() -> None:
    processes = launch(code=SLICED)
    shares = [float(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(shares) == pytest.approx(1)
    assert max(shares) < 0.6


def test_each_process_learns_and_saves_its_slice_of_a_student(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    stage = '{"optimizer": "sgd", "lr": 0.05, "clip": 0.1}'
    file.write_text(make("teacher=null", f"stages=[{stage}]").to_json())
    processes = launch(str(file), str(tmp_path / "checkpoints"), code=LEARNING)
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert sum(float(out) for out, _ in told) == pytest.approx(1)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.pt", "last.1.pt"}


@pytest.mark.parametrize("setting", ["memory.weights=bfloat16", 'stages=[{"optimizer": "muon"}]'])
def test_what_needs_whole_weights_is_refused_beside_slices(make: Make, setting: str) -> None:
    with pytest.raises(UserError, match="shard_student steps slices of weights in float32"):
        make("teacher=null", "precision=auto", "shard_student=true", setting)


def test_an_adaptive_alpha_is_refused_beside_slices(make: Make, tmp_path: Path) -> None:
    stage = '{"methods": [{"name": "output"}], "ratio": {"name": "adaptive"}}'
    with pytest.raises(UserError, match="an adaptive alpha looks at whole weights"):
        drain(run.distill(make(f"stages=[{stage}]", "shard_student=true"), tmp_path / "run"))


def test_a_teacher_in_slices_is_asked_at_every_step(make: Make) -> None:
    with pytest.raises(UserError, match="shard_teacher asks the teacher at every step"):
        make("shard_teacher=true", "cache.inputs=40")


def test_one_process_is_a_team_where_everything_is_immediate() -> None:
    team = Team("cpu")
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()  # type: ignore[union-attr]
    team.average_gradients(list(layer.parameters()))
    team.barrier()
    assert torch.equal(layer.weight.grad, before)  # type: ignore[arg-type]
    assert (team.is_main_process, team.size, team.broadcast("x"), team.any(True), team.mean([1.5])) == (
        True,
        1,
        "x",
        True,
        [1.5],
    )


def test_errors_that_are_not_of_the_exchange_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), together(Team("cpu")):
        raise RuntimeError("shapes differ")
    team = Team("cpu")
    team.size = 2
    with pytest.raises(UserError, match="another process of this run has ended"), together(team):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")


def test_a_batch_and_its_answer_split_alike() -> None:
    x, sigma = torch.arange(5.0).view(5, 1), torch.arange(5.0)
    parts = Batch(x=x, y=x + 1, cond={"sigma": sigma}).split(2)
    answers = TeacherOutput(output=x * 2, features={"layer": x * 3}).split(2)
    assert [len(part.x) for part in parts] == [3, 2]
    for part, answer in zip(parts, answers, strict=True):
        assert part.y is not None
        assert part.real is None
        assert torch.equal(part.y, part.x + 1)
        assert torch.equal(part.cond["sigma"], part.x[:, 0])
        assert torch.equal(answer.output, part.x * 2)
        assert torch.equal(answer.features["layer"], part.x * 3)
