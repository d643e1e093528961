"""Publishing students of text-to-image pipelines: the whole pipeline goes, and comes back to kdgen and plain diffusers."""

from pathlib import Path

import pytest
import torch
from latent_pipelines import WORDS, whole

from kdgen.hub import push_to_hub
from kdgen.models.model import load
from kdgen.recipe import Recipe, Stage
from kdgen.recipe.parts import Guidance
from kdgen.registry import Spec
from kdgen.training import run

from .conftest import RunContext, call


def trained(pipeline: str, folder: Path, **task: object) -> Path:
    """A run of two steps of a pipeline's own net."""
    whole(pipeline).save_pretrained(folder / "teacher")
    teacher, args = str(folder / "teacher"), {"num_latents": 4, "num_steps": 2, "num_images": 4, "picture": 8}
    student = load(teacher).use
    assert student is not None
    recipe = Recipe(
        name="small", task=Spec(name="latent_diffusion", args={"model": teacher, **args, **task}), teacher=teacher,
        student=student, stages=(Stage(methods=(Guidance(name="output"),)),), steps=2, batch_size=2,
        cache={"inputs": 0}, controls=False,
    )  # fmt: skip
    list(run.distill(recipe, folder / "run"))
    return folder / "run"


@pytest.mark.parametrize(("pipeline", "asked"), [
    ("DiTPipeline", {"label": [1]}),
    pytest.param("StableDiffusionPipeline", {"prompt": "red cat"}, marks=WORDS),
])  # fmt: skip
def test_a_student_of_a_pipeline_is_published_and_draws_the_same(
    pipeline: str, asked: dict[str, object], place: RunContext, tmp_path: Path
) -> None:
    prompts = {"prompts": ["red heart", "blue cat"]} if "prompt" in asked else {}
    folder = trained(pipeline, tmp_path, **prompts)
    drawn = load(folder).draw(1, seed=3, num_steps=2, **asked)
    name = place.name("pipeline")
    push_to_hub(folder, name)
    assert torch.equal(load(name).draw(1, seed=3, num_steps=2, **asked), drawn)
    assert call("pull", name, "--to", str(tmp_path / "here")) == 0
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "here")
    assert type(pipe).__name__ == pipeline


def test_a_card_says_how_plain_diffusers_opens_it(place: RunContext, tmp_path: Path) -> None:
    folder = trained("DiTPipeline", tmp_path)
    said = (folder / "student" / "README.md").read_text()
    assert "DiTPipeline.from_pretrained" in said
    assert "pipeline_tag: " in said
