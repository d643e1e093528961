"""Students of few steps as a task: their batches, how they are measured, and that diffusers draws the same."""

import json

import pytest
import torch
from support import EACH_STEP, drain, interrupt, trained, weights
from torch import nn

from kdgen.diffusion import edm_weight, karras_sigmas, sample
from kdgen.diffusion.few_steps import sample_few, trailing_sigmas
from kdgen.models.model import Model, load
from kdgen.recipe import parse
from kdgen.registry import Spec, register
from kdgen.report import sample_grids
from kdgen.report.compare import Report, measure
from kdgen.tasks import FewSteps, Rollouts
from kdgen.training import run
from kdgen.types import UserError


@register("net")
class TinyDenoiser(nn.Module):
    """Two convolutions, preconditioned."""

    def __init__(self, channels: int = 1, width: int = 6) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x, *, sigma, **cond):
        level = sigma.view(-1, 1, 1, 1)
        size = (level**2 + 0.25).sqrt()
        hidden = torch.tanh(self.head(x / size) + level.log() / 4)
        return 0.25 / size**2 * x + level * 0.5 / size * self.tail(hidden)


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    """The folder of a tiny diffusion model of 8x8 images."""
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    task = {"name": "diffuse", "size": 8, "channels": 1}
    Model(TinyDenoiser(), name="tiny", channels=1, task=task, use=Spec(name="tiny_denoiser")).save(tmp_path / "teacher")
    return tmp_path / "teacher"


def few_steps(teacher, source="rollouts", **args):
    images = {"name": source, "args": {"model": str(teacher), "num_images": 40, "num_steps": 3}}
    return FewSteps(images=images, size=8, **{"num_images": 240, "num_steps": 3, **args})


def ladder(teacher, tmp_path, **more):
    """Four steps, then two, then one, each rung from the weights of the one before."""

    def rung(steps):
        return [{"methods": [{"name": "progressive", "args": {"steps": steps}}]}]

    net = {"name": "tiny_denoiser"}
    images = {"name": "samples", "args": {"model": str(teacher), "num_images": 40, "num_steps": 3}}
    task = {"images": images, "size": 8, "sampler": "euler", "steps": [1, 2, 4], "num_images": 200, "num_steps": 3}
    return parse({
        "name": "ladder", "task": {"name": "few_steps", "args": task}, "teacher": str(teacher),
        "assistants": [{"student": net, "share": 0.3, "init": "teacher", "stages": rung(n)} for n in (4, 2)],
        "student": net, "init": "teacher", "stages": rung(1), "steps": 60, "batch_size": 4, "cache": {"inputs": 0},
        "precision": "float32", "device": "cpu", "controls": False, "checkpoint_every": EACH_STEP, "evaluate_every": None,
        **more,
    })  # fmt: skip


def test_batches_are_noisy_images_with_a_share_at_the_highest_level(teacher):
    task = few_steps(teacher, first=0.3)
    batch = next(task.batches(batch_size=400, seed=0))
    highest = float(trailing_sigmas(1)[0])
    sigma = batch.cond["sigma"]
    assert float((sigma > 0.999 * highest).float().mean()) == pytest.approx(0.3, abs=0.07)
    assert sigma.max() <= highest * 1.0001
    assert batch.weight is None
    assert batch.y is not None
    noise = (batch.x - batch.y) / sigma.view(-1, 1, 1, 1)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    out = torch.zeros_like(batch.y)
    expected = edm_weight(sigma, 0.5) * batch.y.square().mean((1, 2, 3))
    torch.testing.assert_close(task.loss(out, batch), expected)
    second = next(task.batches(batch_size=4, seed=0, start=1))
    third = list(zip(range(2), task.batches(batch_size=4, seed=0), strict=False))[1][1]
    assert torch.equal(second.x, third.x)


def test_coupled_batches_have_the_noise_that_made_their_images(teacher):
    task = few_steps(teacher, coupled=True)
    net = load(teacher).net
    for batch in (next(task.batches(batch_size=16, seed=s)) for s in (0, 1)):
        noise = (batch.x - batch.y) / batch.cond["sigma"].view(-1, 1, 1, 1)
        made = sample(net, noise, sigmas=karras_sigmas(3)).clamp(-1, 1)
        assert float((made - batch.y).detach().abs().max()) < 0.03
    assert task.fingerprint() != few_steps(teacher).fingerprint()
    with pytest.raises(UserError, match="coupled needs the noise"):
        few_steps(teacher, source="samples", coupled=True)
    with pytest.raises(UserError, match="1 channels and 8 pixels"):
        Rollouts(str(teacher), num_images=4, num_steps=2).pairs(2, 16, channels=1, seed=0)


def test_the_student_is_measured_in_few_steps_and_the_teacher_in_many(teacher):
    task, net = few_steps(teacher, steps=[2, 1]), load(teacher).net
    torch.manual_seed(1)
    student = TinyDenoiser()
    figures = task.evaluate(student, reference=net)
    assert figures["fd_features32"] == figures["fd_features32@2"] != figures["fd_features32@1"]
    assert {"precision@1", "recall@2", "psnr"} <= figures.keys()
    own = task.evaluate(net, reference=net)
    assert own["fd_features32"] < min(own["fd_features32@1"], own["fd_features32@2"])
    rows = [measure("model", each, task, name="x", reference=net) for each in (student, net)]
    assert [row.calls for row in rows] == [2, 5]
    few = task.evaluate(student, reference=net, limit=20)
    assert "psnr" in few
    alone = few_steps(teacher, data=True).evaluate(student)
    assert "fd_features32@4" in alone


def test_a_net_is_drawn_and_counted_alike_before_and_after_it_was_a_reference(teacher, tmp_path):
    task, net = few_steps(teacher, steps=[2, 1]), load(teacher).net
    before, row = task.draw(net, num_images=4), measure("model", net, task, name="x", reference=TinyDenoiser())
    sample_grids.picture(tmp_path / "alone.png", task, {"net": net})
    task.evaluate(net, reference=net)
    assert torch.equal(task.draw(net, num_images=4), before)
    assert not torch.equal(task.draw_teacher(net, num_images=4), before)
    assert measure("model", net, task, name="x", reference=TinyDenoiser()).calls == row.calls == 2
    sample_grids.picture(tmp_path / "after.png", task, {"net": net})
    sample_grids.picture(tmp_path / "teacher.png", task, {"net": net}, reference=net)
    drawn = [(tmp_path / f"{name}.png").read_bytes() for name in ("alone", "after", "teacher")]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_published_student_draws_in_its_advertised_steps(teacher, tmp_path):
    calls = []
    task = few_steps(teacher, sampler="euler", steps=[2, 4])
    model = Model(load(teacher).net, name="few", channels=1, task=task.describe(), use=Spec(name="tiny_denoiser"))
    model.save(tmp_path / "few")
    loaded = load(tmp_path / "few")
    loaded.net.register_forward_hook(lambda *seen: calls.append(1))
    first = loaded.draw(3, seed=4)
    assert len(calls) == 2
    torch.testing.assert_close(first, task.draw(load(teacher).net, num_images=3, seed=4))
    assert not torch.equal(first, loaded.draw(3, seed=4, num_steps=4))
    assert len(calls) == 6


@pytest.mark.parametrize("sampler", ["euler", "consistency"])
def test_unet2d_students_draw_as_diffusers_does(sampler, tmp_path):
    from diffusers import DDPMPipeline

    from kdgen.models.adapters.unet2d import unet2d
    from kdgen.presets.few_steps import TABLE, small

    torch.manual_seed(0)
    args = {**small(sampler, [8, 16]).args, "size": 8}
    net = unet2d(**args).eval()
    use = Spec(name="unet2d", args=args)
    told = FewSteps(size=8, sampler=sampler, steps=[1, 4], table=TABLE).describe()
    Model(net, name="few", channels=1, task=told, use=use).save(tmp_path / "few")
    loaded = load(tmp_path / "few")
    seeds = torch.randint(2**63 - 1, (5,), generator=torch.Generator().manual_seed(3)).tolist()
    for steps in (1, 2, 4):
        own = [torch.Generator().manual_seed(seed) for seed in seeds]

        def fresh(like=None, own=own):
            return torch.cat([torch.randn((1, 1, 8, 8), generator=each) for each in own])

        start = fresh()

        with torch.no_grad():
            ours = sample_few(net, start, sigmas=trailing_sigmas(steps, TABLE), sampler=sampler, fresh=fresh).clamp(
                -1, 1
            )
        theirs = loaded.draw(5, seed=3, num_steps=steps)
        torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-3)
    assert torch.equal(loaded.draw(2, seed=3), loaded.draw(2, seed=3, num_steps=1))
    if sampler == "consistency":
        pipe = DDPMPipeline.from_pretrained(tmp_path / "few")
        pipe.set_progress_bar_config(disable=True)
        own = [torch.Generator().manual_seed(seed) for seed in seeds]
        plain = pipe(5, generator=own, num_inference_steps=4, output_type="np").images
        torch.testing.assert_close(torch.from_numpy(plain).movedim(-1, 1) * 2 - 1, loaded.draw(5, seed=3, num_steps=4))


def test_a_ladder_of_three_rungs_runs_resumes_and_reports_each(teacher, tmp_path):
    recipe = ladder(teacher, tmp_path)
    drain(run.distill(recipe, tmp_path / "whole"))
    rows = Report.read(tmp_path / "whole").rows
    assert [row.role for row in rows] == ["teacher", "assistant", "assistant", "student"]
    assert all("fd_features32@4" in row.metrics for row in rows)
    assert [row.calls for row in rows] == [5, 1, 1, 1]
    interrupt(recipe, tmp_path / "run", step=5, phase="assistant_1")
    interrupt(recipe, tmp_path / "run", step=3, phase="assistant_2")
    running = run.resume(tmp_path / "run")
    for event in running:
        if event.kind == "phase" and event.phase == "assistant_2":
            break
    running.close()
    drain(run.resume(tmp_path / "run"))
    for phase in ("assistant_1", "assistant_2", "student"):
        assert weights(tmp_path / "run", phase) == weights(tmp_path / "whole", phase)
    assert json.loads((tmp_path / "run" / "student" / "config.json").read_text())["task"]["steps"] == [1, 2, 4]


@pytest.mark.parametrize("method", ["consistency", "distribution_matching", "mean_flow", "score_identity"])
def test_methods_run_and_resume_exactly(method, teacher, tmp_path):
    stage = {"methods": [{"name": method}], "betas": [0.0, 0.99]}
    recipe = ladder(teacher, tmp_path, assistants=[], stages=[stage], steps=12)
    drain(run.distill(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "run", step=5)
    trained(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"sampler": "heun"}, "sampler is one of consistency, euler, average"),
        ({"steps": []}, "steps is a list like"),
        ({"steps": [1, 0]}, "each of steps is a whole number"),
        ({"first": 2}, "first is a share"),
        ({"table": "square"}, "one of linear, cosine"),
        ({"coupled": True}, "coupled needs the noise"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(args, message):
    with pytest.raises(UserError, match=message) as error:
        FewSteps(**args)
    assert "\n" not in str(error.value)


@register("net")
class TinyClassed(TinyDenoiser):
    """Told a class of three, of which the last is no class: each shifts the image."""

    def __init__(self, channels: int = 1, width: int = 6) -> None:
        super().__init__(channels, width)
        self.shift = nn.Parameter(torch.tensor([-0.6, 0.6, 0.0]))

    def forward(self, x, *, sigma, label, **cond):
        return super().forward(x, sigma=sigma) * 0.2 + self.shift[label].view(-1, 1, 1, 1)


def test_a_class_conditional_teacher_is_guided_and_its_student_told_the_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    told = {"name": "diffuse", "size": 8, "channels": 1, "num_classes": 2}
    Model(TinyClassed(), name="c", channels=1, task=told, use=Spec(name="tiny_classed")).save(tmp_path / "teacher")
    guided = {"guidance": {"scale": 1.5, "null": 2}}
    task = few_steps(tmp_path / "teacher", coupled=True, **guided)
    assert task.num_classes == 2
    batch = next(task.batches(batch_size=30, seed=0))
    label = batch.cond["label"]
    assert set(label.tolist()) == {0, 1}
    means = [float(batch.y[label == k].mean()) for k in (0, 1)]
    assert means == pytest.approx([-0.9, 0.9], abs=0.1)
    net = load(tmp_path / "teacher").net
    drawn = task._answers(task.guided(net), 10, 0)
    assert drawn.mean((1, 2, 3)).sign().tolist() == [-1, 1] * 5
    assert float(drawn.abs().mean()) == pytest.approx(0.9, abs=0.1)
    alone = task.draw_in(net, 1, num_images=10)
    assert float(alone.abs().mean()) == pytest.approx(0.6, abs=0.1)
    stage = {"methods": [{"name": "consistency", "args": {"source": "teacher"}}]}
    images = {
        "name": "rollouts",
        "args": {"model": str(tmp_path / "teacher"), "num_images": 40, "num_steps": 3, **guided},
    }
    args = {"images": images, "size": 8, "num_images": 200, "num_steps": 3, **guided}
    recipe = ladder(tmp_path / "teacher", tmp_path, assistants=[], stages=[stage], steps=3,
                    student={"name": "tiny_classed"}, task={"name": "few_steps", "args": args})  # fmt: skip
    drain(run.distill(recipe, tmp_path / "run"))
    student = load(tmp_path / "run")
    assert student.task["num_classes"] == 2
    assert student.draw(4, num_steps=1).mean((1, 2, 3)).sign().tolist() == [-1, 1, -1, 1]


def test_guidance_without_a_null_label_is_refused(teacher):
    for make in (lambda: Rollouts(str(teacher), guidance=2.0), lambda: few_steps(teacher, guidance=2.0)):
        with pytest.raises(UserError, match="guidance needs the label that tells the teacher of no class"):
            make()
