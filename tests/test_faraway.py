"""Nets, methods and runs on a device that refuses what a GPU refuses, each in a process of its own: see faraway.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_gpu_benchmark import benchmark

ROOT = Path(__file__).resolve().parents[1]
STARTS = """
import sys

import torch

import faraway
import kdgen.models.adapters
from kdgen import load
from kdgen.models.model import Model, build_net
from kdgen.models.nets.inherit import start_from
from kdgen.registry import Spec, build


def unet():
    args = {"block_out_channels": [8, 16, 24, 32], "prediction_type": "v_prediction", "num_train_timesteps": 40}
    return load("diffusion"), Spec(name="unet2d", args=args)


def chain():
    big = build("net", Spec(name="dncnn", args={"depth": 4, "width": 8, "bias": False}))
    return Model(big, name="big", channels=1), Spec(name="dncnn", args={"depth": 3, "width": 4})


students = []
for where in ("cpu", "far"):
    torch.manual_seed(0)
    teacher, use = {"unet": unet, "chain": chain}[sys.argv[1]]()
    net, _ = build_net(use, 1, {"size": 32})
    start_from(net, teacher.to(where).net, (use.name, teacher.name), copied=False)
    students.append(net)
for here, there in zip(*(student.parameters() for student in students), strict=True):
    assert there.device.type == "cpu"
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)
"""
MIXED = """
import torch

import faraway

x = torch.ones(2, device="far")
for mixed in (lambda: x + torch.ones(2), lambda: torch.ones(2)[x.long()], lambda: torch.stack([x[0], torch.tensor(1.0)])):
    try:
        mixed()
    except RuntimeError as error:
        assert "same device" in str(error)
    else:
        raise AssertionError("it was taken")
assert (x + torch.tensor(1.0)).tolist() == x.add(1).cpu().tolist() == [2.0, 2.0]
assert x[torch.tensor([0])].device.type == "far"
"""


def run(script: str, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_device_refuses_tensors_of_two_devices() -> None:
    run(MIXED)


@pytest.mark.parametrize("kind", ["unet", "chain"])
def test_a_student_starts_from_a_teacher_on_another_device(kind: str) -> None:
    run(STARTS, kind)


@pytest.mark.parametrize("part", ["methods", "runs"])
def test_no_tensor_is_left_on_another_device(tmp_path: Path, part: str) -> None:
    code, told, said = benchmark(tmp_path, "--device", "far", "--only", part, "--code", "tests/faraway.py")
    assert code == 0, said
    assert len(told["rows"]) > 8
