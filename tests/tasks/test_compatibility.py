"""Nets and tasks that do not fit each other are refused in a line that names both, before anything is written."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import call, drain
from torch import nn

import kdgen
from kdgen.models.adapters import from_module
from kdgen.models.model import Model, build_net
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.types import UserError

Make = Callable[..., Recipe]

IMAGES = 'task.args.images={"name": "folder", "args": {"path": "../pictures"}}'
SMALL = ["cache.inputs=16", "batch_size=8", "steps=2", "controls=false"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "pictures" / "grey.png")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def generator(folder: Path, *, latent: int = 64, size: int = 32, channels: int = 1) -> str:
    """A generator of random weights, saved."""
    use = Spec(name="mlp_generator", args={"latent": latent, "size": size, "channels": channels, "hidden": [8]})
    net, use = build_net(use, channels)
    task = {"name": "generate", "latent": [latent], "size": size, "channels": channels}
    Model(net, name=folder.name, channels=channels, task=task, use=use).save(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("preset", "settings", "said"),
    [
        ("denoise", ["teacher=gan"], ["the teacher gan", "generate", "the task is denoise", "set teacher"]),
        ("denoise", ["teacher=diffusion"], ["the teacher diffusion", "diffuse", "the task is denoise"]),
        ("denoise", ["teacher=vae#decoder"], ["the teacher vae-decoder", "decode", "the task is denoise"]),
        ("denoise", ["task.args.channels=3", "student.args.channels=1"],
         ["the student half_res", "3x64x64", "takes 1 channel:", "student.args.channels to 3", "task.args.channels to 1"]),
        ("denoise", ["task.args.channels=both", "student.args.channels=1"],
         ["the student half_res", "3x64x64", "student.args.channels to 3"]),
        ("denoise", ['assistants=[{"student": {"name": "dncnn", "args": {"channels": 3, "depth": 3}}}]'],
         ["the assistant 1 dncnn", "1x64x64", "assistants.0.student.args.channels to 1"]),
        ("gan", ["task.args.latent=[10]"], ["the teacher gan", "10 numbers", "made for 64", "task.args.latent to [64]"]),
        ("gan", ["teacher=vae"], ["the teacher vae", "autoencode", "the task is generate"]),
        ("gan", ["student.args.latent=10"], ["the student conv_generator", "takes 10 numbers", "student.args.latent to 64"]),
        ("gan", ["student.args.size=16"], ["the student conv_generator", "gives 1x16x16", "1x32x32", "student.args.size to 32"]),
        ("denoise", ["student.args.channels=3"], ["has 3 channels, and the task denoise 1", "student.args.channels to 1"]),
        ("gan", ["student.args.channels=3"], ["gives 3x32x32", "1x32x32", "student.args.channels to 1"]),
        ("gan", ["task.args.channels=3"], ["the teacher gan gives 1x32x32", "3x32x32", "task.args.channels to 1"]),
        ("diffusion", ["task.args.channels=3"], ["the teacher diffusion", "3x32x32", "task.args.channels to 1"]),
        ("diffusion", ["task.args.size=30"],
         ["the teacher diffusion", "1x30x30", "multiples of 8", "task.args.size to 32"]),
        ("vae-decoder", ["student.args.latent=16"], ["the student vae_decoder", "4x8x8", "student.args.latent to 4"]),
        ("vae-decoder", ["student.args.widths=[8,16]"],
         ["the student vae_decoder", "gives 3x16x16", "3x32x32", "student.args.widths"]),
        ("vae-decoder", ["teacher=gan"], ["the teacher gan", "4x8x8", "made for 64 numbers", "set teacher"]),
        ("vae-decoder", ["task.args.channels=1"], ["the task decode", "task.args.channels to 3"]),
        ("autoencoder", ['student={"name": "mlp_vae", "args": {"size": 16}}'],
         ["the student mlp_vae", "3x32x32", "takes 16x16 alone", "student.args.size to 32", "task.args.patch to 16"]),
        ("autoencoder", ["student.args.channels=1"], ["the student vae", "3x32x32", "student.args.channels to 3"]),
        ("autoencoder", ["teacher=gan"], ["the teacher gan", "generate", "the task is autoencode"]),
    ],
)  # fmt: skip
def test_a_run_of_nets_that_do_not_fit_is_refused_in_a_line(
    preset: str, settings: list[str], said: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [] if preset == "gan" else [IMAGES]
    settings = [f"--set={each}" for each in [*settings, *SMALL, *images]]
    assert call("distill", preset, "--quiet", "--out", "run", *settings) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert [words for words in said if words not in line] == []
    assert os.listdir(here) == []


def test_plan_refuses_what_distill_refuses(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        call("plan", "autoencoder", f"--set={IMAGES}", '--set=student={"name": "mlp_vae", "args": {"size": 16}}') == 2
    )
    assert "student.args.size to 32" in capsys.readouterr().err
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "denoiser", "gan"], ["denoiser was made to denoise", "gan to generate"]),
        (["compare", "gan", "vae", "--out", "report"], ["gan was made to generate", "vae to autoencode"]),
        (["compare", "gan", "gan", "--teacher", "vae"], ["gan was made to generate", "vae to autoencode"]),
        (["evaluate", "gan", "--task", "denoise"], ["gan was made to generate, not to denoise"]),
        (["evaluate", "denoiser", "--task", "generate"], ["denoiser was made to denoise, not to generate"]),
        (["evaluate", "gan", "--teacher", "diffusion"], ["gan was made to generate", "diffusion to diffuse"]),
    ],
)
def test_models_of_unlike_tasks_are_not_measured(
    arguments: list[str], said: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert [words for words in said if words not in line] == []
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [({"latent": 10}, "made for 10 numbers"), ({"channels": 3}, "gives 3x32x32")],
)
def test_generators_of_other_latents_or_channels_are_not_compared(
    other: dict[str, int], said: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", "gan", generator(tmp_path / "other", **other)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "other" in line
    assert said in line


def test_a_colour_module_under_a_grey_recipe(make: Make, tmp_path: Path) -> None:
    colour = from_module(nn.Conv2d(3, 3, 3, padding=1))
    with pytest.raises(
        UserError, match=r"the teacher mine .*1x16x16: it takes 3 channels: set task.args.channels to 3"
    ):
        drain(kdgen.distill(make("teacher=mine"), tmp_path / "run", teacher=colour))
    assert not (tmp_path / "run").exists()


def test_a_declared_teacher_of_other_channels(make: Make, tmp_path: Path) -> None:
    net, _ = build_net(Spec(name="dncnn", args={"depth": 3, "width": 8}), 1)
    torch.save(net.state_dict(), tmp_path / "grey.pth")
    spec = json.dumps({"file": str(tmp_path / "grey.pth"), "net": {"name": "dncnn", "args": {"depth": 3, "width": 8}}})
    with pytest.raises(UserError, match=r"the teacher grey .*3x16x16.*task.args.channels to 1"):
        drain(run.distill(make(f"teacher={spec}", "task.args.channels=3"), tmp_path / "run"))


ENCODE = ['task={"name": "encode", "args": {"decoder": "vae", "images": {"name": "folder", "args": {"path": "pictures"}}}}',
          "teacher=vae#encoder", "steps=2", "controls=false"]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["teacher=vae", 'student={"name": "vae_encoder", "args": {"widths": [8, 16, 24], "mean": true}}'],
         r"the teacher vae was made to autoencode, and the task is encode: .*MODEL#encoder"),
        (['student={"name": "vae_encoder", "args": {"latent": 2, "widths": [8, 16, 24], "mean": true}}'],
         r"the student vae_encoder.* gives latents 2x8x8, which the decoder of the task does not take"),
        (['student={"name": "vae_encoder", "args": {"widths": [8, 16], "mean": true}}'],
         r"gives 4x16x16, and the teacher vae-encoder 8x8x8: set student.args.widths"),
    ],
)  # fmt: skip
def test_an_encoder_of_other_latents(
    make: Make, tmp_path: Path, settings: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        drain(run.distill(make(*ENCODE, *settings), tmp_path / "run"))


def test_a_classifier_of_another_number_of_classes(make: Make, tmp_path: Path) -> None:
    task = {"name": "classify", "args": {"images": {"name": "folder", "args": {"path": str(tmp_path / "pictures")}},
                                         "channels": 1, "patch": 16}}  # fmt: skip
    student = {"name": "feature_net", "args": {"classes": 7}}
    settings = [f"task={json.dumps(task)}", "teacher=null", "stages=[{}]", f"student={json.dumps(student)}"]
    with pytest.raises(
        UserError, match=r"gives 7 numbers, and the task classify 1 numbers: set student.args.classes to 1"
    ):
        drain(run.distill(make(*settings), tmp_path / "run"))


def test_a_net_that_breaks_is_named_with_its_own_words(make: Make, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("no such thing")

    with pytest.raises(
        UserError, match=r"the teacher mine does not take .*1x16x16: KeyError: 'no such thing': set teacher"
    ):
        drain(kdgen.distill(make("teacher=mine"), tmp_path / "run", teacher=from_module(Broken())))


class Wrong(nn.Module):
    """A grey teacher whose answers are of the wrong kind, or whose weights are."""

    def __init__(self, answer: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.conv, self.answer = nn.Conv2d(1, 1, 1), answer

    def forward(self, x: torch.Tensor) -> object:
        return self.answer(self.conv(x))


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (Wrong(lambda y: (y, y)), "answers with a tuple, not with a tensor"),
        (Wrong(lambda y: {"sample": y}), "answers with a dict, not with a tensor"),
        (Wrong(lambda y: y.detach().numpy()), "answers with a ndarray, not with a tensor"),
        (Wrong(lambda y: y.view(1, 1, *y.shape[-2:])), "RuntimeError: shape"),
        (Wrong(lambda y: y).half(), "its weights are of float16: call .float()"),
        (Wrong(lambda y: y).double(), "its weights are of float64: call .float()"),
    ],
)
def test_a_teacher_of_ones_own_is_refused_for_what_is_wrong_with_it(
    make: Make, tmp_path: Path, teacher: nn.Module, said: str, foreign: bool
) -> None:
    with pytest.raises(UserError, match=r"the teacher mine does not take .*1x16x16: ") as error:
        drain(
            kdgen.distill(make("teacher=mine"), tmp_path / "run", teacher=from_module(teacher) if foreign else teacher)
        )
    assert said in str(error.value)
    assert "any size" not in str(error.value)
    assert not (tmp_path / "run").exists()
