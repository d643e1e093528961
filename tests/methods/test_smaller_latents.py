"""Methods that read layers, between a pipeline and a student with fewer of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from latent_pipelines import WORDS, adapted, whole
from safetensors.torch import load_file
from support import trained

from kdgen import registry
from kdgen.methods.features.attention import Attention
from kdgen.methods.features.blocks import Blocks
from kdgen.methods.features.feature import Feature
from kdgen.models.model import load
from kdgen.recipe import Recipe, Stage
from kdgen.recipe.parts import Guidance
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.types import Batch
from kdgen.utils.hooks import capture_outputs

FLUX = "FluxPipeline"
SHALLOW: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "StableDiffusionPipeline": ({"layers_per_block": 2}, {"layers_per_block": 1, "mid_block_type": None}),
    "DiTPipeline": ({"num_layers": 4}, {"num_layers": 2}),
    "StableDiffusion3Pipeline": ({"num_layers": 4}, {"num_layers": 2}),
    FLUX: ({"num_layers": 3, "num_single_layers": 3}, {"num_layers": 2, "num_single_layers": 1}),
}
"""Configurations of teachers, and of students with fewer layers."""

PAIRS = {
    "StableDiffusionPipeline": {(f"unet.{name}",) * 2 for name in
                                ("down_blocks.0", "down_blocks.1", "up_blocks.0", "up_blocks.1")},
    "DiTPipeline": {("transformer.transformer_blocks.0",) * 2,
                    ("transformer.transformer_blocks.1", "transformer.transformer_blocks.3")},
    "StableDiffusion3Pipeline": {("transformer.transformer_blocks.0",) * 2,
                                 ("transformer.transformer_blocks.1", "transformer.transformer_blocks.3")},
    FLUX: {("transformer.transformer_blocks.0",) * 2,
           ("transformer.transformer_blocks.1", "transformer.transformer_blocks.2"),
           ("transformer.single_transformer_blocks.0", "transformer.single_transformer_blocks.2")},
}  # fmt: skip
"""Layers of these students, and those that they come from."""


@pytest.mark.parametrize("pipeline", SHALLOW)
def test_a_layer_learns_from_the_one_that_it_comes_from_what_that_says_of_the_image(pipeline: str) -> None:
    deep, shallow = SHALLOW[pipeline]
    teacher, student = adapted(pipeline, **deep), adapted(pipeline, 1, **shallow)
    student.inherit(teacher)
    x = torch.randn(2, student.latent_channels, student.size, student.size)
    told = {name: value.expand(2, *value.shape[1:]) for name, value in student.example().items()}
    batch = Batch(x=x, cond={"sigma": torch.ones(2), **told})
    for method, most in ((Blocks(), len(PAIRS[pipeline])), (Feature(), 3), (Attention(num_pairs=2), 2)):
        method.attach(student, teacher, batch)
        found = {(pair.student.path, pair.teacher.path) for pair in method.pairs}
        assert found <= PAIRS[pipeline]
        assert len(found) == min(most, len(PAIRS[pipeline]))
    paths = student.feature_layers()
    with capture_outputs(student, paths) as own, torch.no_grad():
        student(x, **batch.cond)
    if student.part == "transformer":  # places of the image, and none of the words
        side = student.size // (student.patch or student.model.config.patch_size)
        assert {tuple(own[path].shape[2:]) for path in paths} == {(side, side)}
    with capture_outputs(teacher, paths[:1]) as theirs, torch.no_grad():
        teacher(x, **batch.cond)
    if student.part == "transformer":
        torch.testing.assert_close(own[paths[0]], theirs[paths[0]])


@pytest.mark.parametrize("pipeline", ["DiTPipeline", pytest.param("StableDiffusionPipeline", marks=WORDS)])
def test_a_shallower_student_is_distilled_by_its_layers(pipeline: str, tmp_path: Path) -> None:
    deep, shallow = SHALLOW[pipeline]
    net = adapted(pipeline, **deep)
    whole(pipeline, **{net.part: net.model}).save_pretrained(tmp_path / "teacher")
    use = load(tmp_path / "teacher").use
    assert use is not None
    student = use.model_copy(update={"args": {**use.args, "config": {**use.args["config"], **shallow}}})  # type: ignore[dict-item]
    words = {} if pipeline == "DiTPipeline" else {"prompts": ["red heart", "blue cat"]}
    args = {"model": str(tmp_path / "teacher"), "num_latents": 8, "num_steps": 2, "num_images": 4, **words}
    methods = tuple(Guidance(name=name) for name in ("output", "blocks", "feature", "attention", "relation"))
    recipe = Recipe(
        name="shallow", task=Spec(name="latent_diffusion", args=args), teacher=str(tmp_path / "teacher"),
        student=student, init="teacher", stages=(Stage(methods=methods, lr=1e-3),), steps=3, batch_size=4,
        cache={"inputs": 8}, controls=False,
    )  # fmt: skip
    trained(run.distill(recipe, tmp_path / "run"))
    start = registry.build("net", student)
    start.inherit(net)
    learnt = load_file(tmp_path / "run" / "student" / net.part / "diffusion_pytorch_model.safetensors")
    assert all(value.isfinite().all() for value in learnt.values())
    assert not any(
        torch.equal(value, start.model.state_dict()[name]) for name, value in learnt.items() if "blocks" in name
    )
