"""Smaller nets of latents: what changes of their configurations, and that they start from what they are smaller than."""

from typing import Any

import pytest
import torch
from latent_parts import XL
from latent_pipelines import adapted, used

import kdgen.tasks  # noqa: F401 - registers its names
from kdgen import registry
from kdgen.metrics import cost
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.model import Model
from kdgen.models.scaling import family_of
from kdgen.registry import Spec
from kdgen.report.propose import propose
from kdgen.types import Batch, Task

LARGE: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {"block_out_channels": [16, 32], "layers_per_block": 2},
    XL: {"block_out_channels": [16, 32], "attention_head_dim": [4, 8], "transformer_layers_per_block": [1, 3]},
    "DiTPipeline": {"num_layers": 4, "num_attention_heads": 4},
    "PixArtAlphaPipeline": {
        "num_layers": 4, "num_attention_heads": 6, "cross_attention_dim": 24, "use_additional_conditions": True,
    },
    "StableDiffusion3Pipeline": {
        "num_layers": 6, "num_attention_heads": 4, "caption_projection_dim": 16, "dual_attention_layers": [0, 1, 2],
    },
    "FluxPipeline": {"num_layers": 2, "num_single_layers": 4, "num_attention_heads": 4},
    "SanaPipeline": {
        "num_layers": 4, "num_attention_heads": 4, "num_cross_attention_heads": 2, "cross_attention_dim": 16,
    },
}  # fmt: skip
SIZES = {"block_out_channels", "layers_per_block", "transformer_layers_per_block", "mid_block_type", "num_layers",
         "num_single_layers", "num_attention_heads", "num_cross_attention_heads", "dual_attention_layers",
         "attention_head_dim", "cross_attention_dim", "caption_projection_dim"}  # fmt: skip


class Drawing(Task):
    """A latent and what a net is told: the task of such nets takes a whole pipeline, which is not here."""

    reads = gives = "latents"
    needs = frozenset({"sigma"})

    def __init__(self, net: LatentModel) -> None:
        self.net = net

    def example(self) -> Batch:
        x = torch.zeros(1, self.net.latent_channels, self.net.size, self.net.size)
        return Batch(x=x, cond={"sigma": torch.ones(1), **self.net.example()})

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        return tuple(batch.x.shape[1:])

    def describe(self) -> dict[str, Any]:
        return self.net.describe()


@pytest.mark.parametrize("pipeline", LARGE)
def test_smaller_nets_keep_what_their_pipeline_settles_and_start_from_their_teacher(pipeline: str) -> None:
    use, teacher = used(pipeline, **LARGE[pipeline]), adapted(pipeline, **LARGE[pipeline])
    family, smallest = family_of(use.name), list[int]()
    assert family.largest == 1
    at = [list(family.scale(dict(use.args), scale)) for scale in (1.0, 0.5)]
    assert changed(Spec(name=use.name, args=at[0][0]), use) == set()
    for whole, half in zip(*at, strict=True):
        small = Spec(name=use.name, args=half)
        assert changed(small, use) <= SIZES - (
            {"cross_attention_dim"} if teacher.part == "unet" else {"attention_head_dim"}
        )
        student: LatentModel = registry.build("net", small)
        assert student.conditions == teacher.conditions
        student.inherit(teacher)
        with torch.device("meta"):
            wide: LatentModel = registry.build("net", Spec(name=use.name, args=whole))
        assert cost.num_params(student) < cost.num_params(wide)
        smallest.append(cost.num_params(student))
    assert len(set(smallest)) == len(smallest) > 1


def changed(use: Spec, other: Spec) -> set[str]:
    """Entries of the configuration that differ, or else arguments."""
    own, given = ({**each.args, **each.args["config"]} for each in (use, other))  # type: ignore[dict-item]
    return {key for key, value in own.items() if key != "config" and value != given.get(key, value)}


@pytest.mark.parametrize("pipeline", [XL, "DiTPipeline"])
def test_the_largest_student_of_a_share_of_the_cost_is_proposed(pipeline: str) -> None:
    use, net = used(pipeline, **LARGE[pipeline]), adapted(pipeline, **LARGE[pipeline])
    found = propose(Model(net, name="teacher", channels=3, use=use), Drawing(net), fraction=0.4)
    assert 0.2 < found.share <= 0.4
    assert changed(found.use, use)
    assert found.use.args.keys() == use.args.keys(), "no argument that the configuration counts in place of"
