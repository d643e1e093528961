"""Students of pipelines that draw in few steps: by every method, under guidance that they learn, by plain diffusers alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from latent_pipelines import WORDS, reopened, whole

from kdgen.diffusion.few_steps import trailing_sigmas
from kdgen.models.adapters.pipeline_images import image_seeds
from kdgen.models.model import load
from kdgen.recipe import Recipe, Stage
from kdgen.recipe.parts import Guidance
from kdgen.registry import Spec
from kdgen.report.report import Report
from kdgen.tasks.latent_few_steps import LatentFewSteps
from kdgen.training import run
from kdgen.types import UserError

SMALL = {"num_latents": 12, "num_steps": 2, "num_images": 8, "picture": 8, "steps": [2, 1], "sampler": "euler"}
PROMPTS = ["red heart", "blue cat", "red cat"]
TRAILING = {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "clip_sample": False}
LCM = {"_class_name": "LCMScheduler", "original_inference_steps": 50}
METHODS: dict[str, dict[str, Any]] = {
    "consistency": {"source": "teacher"},
    "progressive": {"steps": 2},
    "distribution_matching": {"steps": 2, "adversarial": 0.1, "width": 8, "sampler": "euler"},
    "score_identity": {"steps": 2, "sampler": "euler"},
    "drawn_adversarial": {"steps": 2, "width": 8, "sampler": "euler"},
    "latent_adversarial": {"steps": 2, "width": 8, "sampler": "euler"},
    "rectified_flow": {},
    "output": {},
}

QUICK = ("consistency", "distribution_matching", "latent_adversarial")
"""Those tried always: by itself, against a critic of scores and against a discriminator."""


def same_net(teacher: Path, scheduler: dict[str, Any] | None = None, **config: Any) -> Spec:
    """The teacher's own net, with a scheduler of few steps on the same noise levels where one is given."""
    use = load(teacher).use
    assert use is not None
    levels = ("beta_start", "beta_end", "beta_schedule", "prediction_type", "num_train_timesteps")
    own = {key: use.args["scheduler"][key] for key in levels if key in use.args["scheduler"]}
    args = {**use.args, "config": {**use.args["config"], **config}}
    return Spec(name=use.name, args=args if scheduler is None else {**args, "scheduler": {**own, **scheduler}})


def recipe(teacher: Path, student: Spec, *methods: Guidance, **task: Any) -> Recipe:
    args: Any = {"model": str(teacher), **SMALL, **task}
    return Recipe(
        name="few", task=Spec(name="latent_few_steps", args=args), teacher=str(teacher), student=student, init="teacher",
        stages=(Stage(methods=methods, lr=1e-3),), steps=3, batch_size=4, cache={"inputs": 0}, controls=False,
    )  # fmt: skip


@pytest.fixture
def of_words(tmp_path: Path) -> Path:
    whole("StableDiffusionPipeline").save_pretrained(tmp_path / "sd")
    return tmp_path / "sd"


@pytest.fixture
def of_classes(tmp_path: Path) -> Path:
    whole("DiTPipeline").save_pretrained(tmp_path / "dit")
    return tmp_path / "dit"


@pytest.mark.parametrize("method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                    for name in METHODS])  # fmt: skip
def test_every_method_teaches_a_pipeline_of_classes_few_steps(method: str, of_classes: Path, tmp_path: Path) -> None:
    use = Guidance(name=method, args=METHODS[method])
    list(run.distill(recipe(of_classes, same_net(of_classes, TRAILING), use, guidance=2.0), tmp_path / "run"))
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    assert rows["student"].calls == 2
    assert rows["teacher"].macs == 2 * rows["student"].macs, "guided, it is asked twice"
    model = load(tmp_path / "run")
    assert not all(torch.equal(a, b) for a, b in zip(model.net.state_dict().values(),
                                                     load(of_classes).net.state_dict().values(), strict=True))  # fmt: skip
    pipe = reopened("DiTPipeline", tmp_path / "run" / "student")
    generators = [torch.Generator().manual_seed(seed) for seed in image_seeds(3, 2)]
    theirs = pipe([1, 7], guidance_scale=1.0, generator=generators, num_inference_steps=2, output_type="np").images
    ours = model.draw(2, seed=3, label=[1, 7])
    torch.testing.assert_close(ours, torch.from_numpy(theirs).movedim(-1, 1) * 2 - 1, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pipeline", [
    pytest.param("StableDiffusionPipeline", marks=WORDS),
    *(pytest.param(name, marks=[WORDS, pytest.mark.slow]) for name in
      ("StableDiffusionXLPipeline", "PixArtSigmaPipeline", "StableDiffusion3Pipeline", "SanaPipeline")),
])  # fmt: skip
def test_pipelines_of_words_learn_few_steps_along_their_teacher_s_trajectories(pipeline: str, tmp_path: Path) -> None:
    whole(pipeline).save_pretrained(tmp_path / "teacher")
    flow = load(tmp_path / "teacher").net.predicts_flow
    student = same_net(tmp_path / "teacher", None if flow else LCM)
    use = Guidance(name="consistency", args={"source": "teacher"})
    told = {"prompts": PROMPTS, "guidance": 3.0, "sampler": "euler" if flow else "consistency"}
    list(run.distill(recipe(tmp_path / "teacher", student, use, **told), tmp_path / "run"))
    model = load(tmp_path / "run")
    assert model.task["guidance"] == 1
    pipe = reopened(pipeline, tmp_path / "run" / "student")
    generators = [torch.Generator().manual_seed(seed) for seed in image_seeds(3, 1)]
    theirs = pipe("red heart", **model.net.called_with(pipe, 1.0), generator=generators, num_inference_steps=2,
                  output_type="np").images  # fmt: skip
    ours = model.draw(1, seed=3, prompt="red heart")
    torch.testing.assert_close(ours, torch.from_numpy(theirs).movedim(-1, 1) * 2 - 1, atol=1e-4, rtol=0)


@WORDS
def test_a_student_that_is_told_the_scale_of_guidance(of_words: Path, tmp_path: Path) -> None:
    student, use = same_net(of_words, LCM, time_cond_proj_dim=16), Guidance(name="output")
    told = {"prompts": PROMPTS, "guidance": [2.0, 6.0], "sampler": "consistency"}
    list(run.distill(recipe(of_words, student, use, **told), tmp_path / "run"))
    model = load(tmp_path / "run")
    assert "guidance" in model.net.conditions
    pipe = reopened("StableDiffusionPipeline", tmp_path / "run" / "student")
    drawn = []
    for scale in (2.0, 5.0):
        ours = model.draw(1, seed=3, prompt="red heart", guidance=scale)
        generators = [torch.Generator().manual_seed(seed) for seed in image_seeds(3, 1)]
        theirs = pipe("red heart", guidance_scale=scale, generator=generators, num_inference_steps=2, output_type="np")
        torch.testing.assert_close(ours, torch.from_numpy(theirs.images).movedim(-1, 1) * 2 - 1, atol=1e-4, rtol=0)
        drawn.append(ours)
    assert not torch.equal(*drawn)
    assert torch.equal(model.draw(1, seed=3, prompt="red heart"),
                       model.draw(1, seed=3, prompt="red heart", guidance=4.0)), "by default the middle"  # fmt: skip


@WORDS
def test_a_student_told_of_guidance_begins_as_its_teacher_at_every_scale(of_words: Path) -> None:
    from kdgen.models.model import build_net
    from kdgen.models.nets.inherit import start_from

    teacher = load(of_words).net
    net, _ = build_net(same_net(of_words, time_cond_proj_dim=16), 3, {})
    start_from(net, teacher, ("student", "teacher"), copied=False)
    x, sigma, words = torch.randn(2, *net.latents()[:1], 8, 8), torch.ones(2), torch.randn(2, 77, 12)
    told = net(x, sigma=sigma, words=words, guidance=torch.tensor([2.0, 7.0]))
    torch.testing.assert_close(told, teacher(x, sigma=sigma, words=words))


def test_levels_are_those_of_the_student_s_own_scheduler(of_classes: Path) -> None:
    from kdgen.models.model import build_net

    trailing = build_net(same_net(of_classes, TRAILING), 3, {})[0]
    torch.testing.assert_close(trailing.few_levels(4), trailing_sigmas(4, trailing.timesteps))
    with pytest.raises(UserError, match=r'first of 4 timesteps of this DDIMScheduler is 750, .* "trailing"'):
        load(of_classes).net.few_levels(4)


def test_what_the_teacher_draws_is_guided_and_kept(of_classes: Path) -> None:
    task, plain = (LatentFewSteps(str(of_classes), **SMALL, guidance=how) for how in (3.0, None))
    teacher = load(of_classes).net
    assert task.guided(teacher) is not teacher
    assert plain.guided(teacher) is teacher
    assert not torch.equal(task.latents, plain.latents)
    assert task.highest == pytest.approx(load(of_classes).net.timesteps.sigma_max)
