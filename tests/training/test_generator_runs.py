"""Runs whose nets make images: from a teacher alone, and with objectives of the student's own."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import EACH_STEP, call, drain, interrupt, trained, weights

from kdgen import registry
from kdgen.data import generator
from kdgen.models.discriminators import GanLoss
from kdgen.models.model import Model, build_net, load
from kdgen.recipe import Recipe, override, parse
from kdgen.registry import Spec
from kdgen.report.compare import Report
from kdgen.tasks import Samples
from kdgen.tasks.infer_task import measuring_task
from kdgen.training import run
from kdgen.types import UserError

Make = Callable[..., Recipe]
GAME = '{"name": "adversarial", "args": {"width": 4, "penalty": 0.1, "every": 2}, "weight": 0.5}'
WITH_GAME = f'stages=[{{"methods": [{{"name": "output"}}], "objectives": [{GAME}], "ratio": {{"name": "adaptive"}}}}]'


class Stripes:
    """Images of two grey values, light above."""

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> torch.Tensor:
        values = torch.rand((count, 1, 2, 1), generator=generator(seed, "values")).sort(2, descending=True).values
        return (2 * values - 1).repeat_interleave(size // 2, 2).expand(-1, channels, -1, size).contiguous()

    def fingerprint(self) -> str:
        return hashlib.sha256(b"stripes").hexdigest()


@pytest.fixture
def make_gan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Recipes for a tiny generator of a tiny teacher, with settings applied."""
    monkeypatch.setitem(registry._registered, "images", {**registry._registered["images"], "stripes": Stripes})
    torch.manual_seed(0)
    net, use = build_net(Spec(name="conv_generator", args={"latent": 4, "size": 8, "width": 8}), channels=1)
    task = {"name": "generate", "latent": [4], "size": 8, "channels": 1}
    Model(net, name="big", channels=1, task=task, use=use).save(tmp_path / "teacher")
    whole = {
        "name": "tiny",
        "task": {
            "name": "generate",
            "args": {"latent": 4, "size": 8, "num_images": 220, "images": {"name": "stripes"}},
        },
        "teacher": str(tmp_path / "teacher"),
        "student": {"name": "mlp_generator", "args": {"latent": 4, "size": 8, "hidden": [8]}},
        "stages": [{"methods": [{"name": "output"}]}],
        "steps": 12,
        "batch_size": 8,
        "cache": {"inputs": 48, "dir": str(tmp_path / "cache")},
        "checkpoint_every": EACH_STEP,
        "device": "cpu",
    }
    return lambda *settings: override(parse(whole), settings)


def test_without_objectives_the_teacher_is_the_only_guide(make_gan: Make, tmp_path: Path) -> None:
    drain(run.distill(make_gan(), tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    assert [row.role for row in report.rows] == ["teacher", "student"]
    assert report.primary_metric == "fd_features32"
    assert "alpha was 1" in report.verdict
    teacher, student = report.rows
    assert teacher.metrics["fd_features32"] < student.metrics["fd_features32"]
    assert {"psnr", "ssim", "perceptual"} <= student.metrics.keys() - teacher.metrics.keys()
    assert {"fd_features32@data", "sharpness@data", "diversity", "vendi", "precision"} <= student.metrics.keys()
    assert any("220 images with seed 0" in note for note in report.notes)
    assert (tmp_path / "run" / "samples.png").stat().st_size > 0
    assert (tmp_path / "run" / "curves.png").stat().st_size > 0


def test_what_spoils_a_student_is_told_while_it_happens(make_gan: Make, tmp_path: Path) -> None:
    ruin = [{"methods": [{"name": "output"}], "lr": 3.0, "clip": 0, "warmup": 0, "decay": "none"}]
    recipe = make_gan(f"stages={json.dumps(ruin)}", "ema=0", "task.args.images=null")
    events = drain(run.distill(recipe, tmp_path / "run"))
    looks = [event.data for event in events if event.kind == "evaluate"]
    assert all({"saturation", "contrast", "diversity_ratio"} <= look.keys() for look in looks)
    assert looks[-1]["saturation"] > 0.5
    said = [event.data["message"] for event in events if event.kind == "warning"]
    assert any("student at step" in line and "images saturate" in line for line in said)
    logged = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert '"diversity_ratio":' in logged
    assert "Beware, the student's images saturate" in (tmp_path / "run" / "report.md").read_text()


def test_with_objectives_there_are_controls_that_learn_from_these_alone(make_gan: Make, tmp_path: Path) -> None:
    events = drain(run.distill(make_gan(WITH_GAME, "evaluate_every=null"), tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    assert [row.role for row in report.rows] == ["teacher", "student", "control_steps", "control_seconds"]
    assert "against the same student trained without it" in report.verdict
    assert len({weights(tmp_path / "run", phase) for phase in ("student", "control_steps", "control_seconds")}) == 3
    shown = [event.data.keys() for event in events if event.kind == "step" and event.phase == "control_seconds"]
    assert all({"own_adversarial", "own_adversarial_critic"} <= keys for keys in shown)
    assert not any("output" in keys for keys in shown)


def test_a_game_resumes_to_the_identical_student(make_gan: Make, tmp_path: Path) -> None:
    recipe = make_gan(WITH_GAME, "controls=false", "steps=24")
    trained(run.distill(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "run", step=5)
    interrupt(recipe, tmp_path / "run", step=15)
    state = torch.load(tmp_path / "run" / "checkpoints" / "student" / "last.pt", weights_only=True)
    assert any(key.startswith("0/own/0/adversarial.game.critic") for key in state["methods"])
    assert state["critics"]["state"][0]["step"] == state["step"]
    drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")
    ends = [torch.load(tmp_path / name / "checkpoints" / "student" / "last.pt", weights_only=True)["methods"]
            for name in ("whole", "run")]  # fmt: skip
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_a_critic_that_is_not_finite_goes_back_too(
    make_gan: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, calls = GanLoss.discriminator_loss, iter(range(10**6))

    def poisoned(self: GanLoss, *seen: torch.Tensor) -> torch.Tensor:
        return wanted(self, *seen) * (float("nan") if next(calls) == 6 else 1)

    monkeypatch.setattr(GanLoss, "discriminator_loss", poisoned)
    events = drain(run.distill(make_gan(WITH_GAME, "controls=false"), tmp_path / "run"))
    said = [event.data["message"] for event in events if event.kind == "warning"]
    (warning,) = [message for message in said if "not finite" in message]
    assert "own_adversarial_critic" in warning
    assert all(p.isfinite().all() for p in load(tmp_path / "run").parameters())
    state = torch.load(tmp_path / "run" / "checkpoints" / "student" / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["methods"].values())


def test_a_game_without_real_images_is_refused_in_one_line(make_gan: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs real images") as refused:
        next(run.distill(make_gan(WITH_GAME, 'task.args={"latent": 4, "size": 8}'), tmp_path / "run"))
    assert "\n" not in str(refused.value)


def test_nothing_to_learn_from_is_refused_in_one_line(make_gan: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to learn from"):
        drain(run.distill(make_gan('stages=[{"name": "train"}]', "controls=false"), tmp_path / "run"))


def test_evaluate_and_compare_generators_with_their_teacher(
    make_gan: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = str(tmp_path / "student"), str(tmp_path / "teacher")
    net, use = build_net(Spec(name="mlp_generator", args={"latent": 4, "size": 8, "hidden": [8]}), channels=1)
    Model(net, name="tiny", channels=1, task=load(teacher).task, use=use).save(Path(student))
    assert call("evaluate", student, "--teacher", teacher, "--json") == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert {"psnr", "fd_features32", "vendi", "diversity"} <= evaluated["metrics"].keys()
    assert "2,000 images with seed 0" in evaluated["measured"]
    assert call("evaluate", student) == 2
    assert "nothing to compare with" in capsys.readouterr().err
    assert call("evaluate", student, "--sigma", "5") == 2
    assert "--sigma is for denoisers" in capsys.readouterr().err
    out = tmp_path / "comparison"
    assert call("compare", student, "--teacher", teacher, "--json", "--out", str(out)) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["role"], row["name"]) for row in report["rows"]] == [("teacher", "big"), ("model", "tiny")]
    assert report["rows"][1]["metrics"] == pytest.approx(evaluated["metrics"])
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "samples.png"}


def test_controls_start_from_the_weights_the_student_starts_from(make_gan: Make, tmp_path: Path) -> None:
    net, use = build_net(Spec(name="mlp_generator", args={"latent": 4, "size": 8, "hidden": [8]}), channels=1)
    task = {"name": "generate", "latent": [4], "size": 8, "channels": 1}
    Model(net, name="twin", channels=1, task=task, use=use).save(tmp_path / "teacher")
    game = {"methods": [{"name": "output"}], "objectives": [json.loads(GAME)], "lr": 1e-9,
            "ratio": {"name": "fixed", "args": {"alpha": 0.5}}}  # fmt: skip
    recipe = make_gan(f"stages={json.dumps([game])}", "init=teacher", "steps=2", "task.args.num_images=4")
    drain(run.distill(recipe, tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    teacher = load(tmp_path / "teacher").net.state_dict()
    for phase in ("student", "controls/control_steps", "controls/control_seconds"):
        trained = load(tmp_path / "run" / phase).net.state_dict()
        assert all(torch.allclose(value, trained[key], atol=1e-6) for key, value in teacher.items())
    assert any("controls start from the teacher's weights" in note for note in report.notes)


def test_images_that_the_teacher_draws_take_seconds_of_the_students(
    make_gan: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    images = {"name": "samples", "args": {"model": str(tmp_path / "teacher"), "num_images": 40}}
    task = {"latent": 4, "size": 8, "num_images": 4, "images": images}
    made, pause = Samples._made, 1.0

    def slowly(self: Samples) -> torch.Tensor:
        time.sleep(pause)
        return made(self)

    monkeypatch.setattr(Samples, "_made", slowly)
    recipe = make_gan(WITH_GAME, f"task.args={json.dumps(task)}", "seconds=2", "evaluate_every=null")
    drain(run.distill(recipe, tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    rows = {row.role: row for row in report.rows}
    assert report.seconds is not None
    assert report.seconds.drawing == pytest.approx(pause, abs=0.3)
    assert report.seconds.training == pytest.approx(2 - pause, abs=0.3)
    for role in ("student", "control_seconds"):
        assert rows[role].seconds == pytest.approx(2, abs=0.4)
    assert "Drawing the images to train on took 1 s, which count as the student's" in report.to_markdown()
    drain(run.distill(recipe, tmp_path / "again"))
    again = Report.read(tmp_path / "again")
    assert again.seconds is not None
    assert again.seconds.drawing == 0
    assert again.seconds.training > 1.5
    assert "drawn by a model, already lay on disk" in again.to_markdown()


def test_images_that_took_all_the_seconds_leave_a_third_to_training(
    make_gan: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    images = {"name": "samples", "args": {"model": str(tmp_path / "teacher"), "num_images": 40}}
    task = {"latent": 4, "size": 8, "num_images": 4, "images": images}
    made = Samples._made

    def slowly(self: Samples) -> torch.Tensor:
        time.sleep(1.0)
        return made(self)

    monkeypatch.setattr(Samples, "_made", slowly)
    recipe = make_gan(
        WITH_GAME, f"task.args={json.dumps(task)}", "seconds=0.9", "evaluate_every=null", "controls=false"
    )
    events = drain(run.distill(recipe, tmp_path / "run"))
    warned = [e.data["message"] for e in events if e.kind == "warning"]
    assert len(warned) == 1
    assert "images and answers took 1 of the 0.9 s, so that training takes" in warned[0]
    seconds = next(e.data["seconds"] for e in events if e.kind == "phase")
    assert 0.3 <= seconds < 0.9


def test_a_class_conditional_diffusion_model_teaches_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    args = {"size": 8, "norm_num_groups": 4, "attention_levels": 0, "num_class_embeds": 3}
    net, use = build_net(Spec(name="unet2d", args={**args, "block_out_channels": [8, 16]}), channels=1)
    told = {"name": "diffuse", "size": 8, "channels": 1, "num_classes": 3}
    Model(net, name="big", channels=1, task=told, use=use).save(tmp_path / "teacher")
    images = {"name": "samples", "args": {"model": str(tmp_path / "teacher"), "num_images": 30, "num_steps": 2}}
    task = {"images": images, "size": 8, "num_images": 4, "num_steps": 2, "num_classes": 3}
    recipe = parse({
        "name": "classes",
        "task": {"name": "diffuse", "args": task},
        "teacher": str(tmp_path / "teacher"),
        "student": {"name": "unet2d", "args": {**args, "block_out_channels": [4, 8]}},
        "stages": [{"methods": [{"name": "output"}, {"name": "adversarial", "args": {"width": 4, "classes": 3}}]}],
        "steps": 3, "batch_size": 4, "cache": {"inputs": 16}, "controls": False, "device": "cpu",
    })  # fmt: skip
    drain(run.distill(recipe, tmp_path / "run"))
    student = load(tmp_path / "run")
    assert student.task["num_classes"] == 3
    assert student.draw(4, seed=0, num_steps=2).shape == (4, 1, 8, 8)
    with pytest.raises(UserError, match="set `classes` to their number"):
        drain(run.distill(override(recipe, ["stages.0.methods.1.args={}"]), tmp_path / "untold"))


def test_data_on_the_command_line_are_what_is_measured_against(tmp_path: Path) -> None:
    pixels = torch.randint(256, (12, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    idx = tmp_path / "digits-idx3-ubyte"
    idx.write_bytes(bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (12, 8, 8)) + pixels.numpy().tobytes())
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture.numpy()).save(tmp_path / "pictures" / f"{number:02}.png")
    known = pixels.flatten(1) / 127.5 - 1
    for name in ("diffuse", "generate", "autoencode"):
        model = Model(torch.nn.Unflatten(1, (1, 8, 8)) if name == "generate" else torch.nn.Identity(), name="any",
                      channels=1, task={"name": name, "size": 8, "channels": 1})  # fmt: skip
        for data in (idx, tmp_path / "pictures"):
            _, task = measuring_task({"any": model}, data)
            assert task.images is not None
            measured = task._real(6, 0).flatten(1)
            assert torch.cdist(measured, known).amin(1).max() < 1e-2
