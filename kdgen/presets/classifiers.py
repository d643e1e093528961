"""Classifiers of small pictures, taught by published ones.

Files are named relative to where the command runs. `resnet20-12fca82f.th` is the ResNet-20 of github
akamaster/pytorch_resnet_cifar10, in its folder `pretrained_models` (BSD-2). `cifar10.npz` holds CIFAR-10 (Krizhevsky
2009) as `train_images` (N, 32, 32, 3), `train_labels` (N,), `test_images` and `test_labels`, uint8 all:
`numpy.savez("cifar10.npz", **arrays)` writes it of what any loader of CIFAR-10 gives. Pictures of the ten classes in
folders do as well: `--set 'task.args.images={"name": "image_folder", "args": {"path": "pets", "split": "train"}}'`.
"""

from typing import Any

from pydantic import JsonValue

from kdgen.recipe import CacheSpec, Checkpoint, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""Of CIFAR-10, in the order of its labels."""

NORMALISED: dict[str, JsonValue] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""How the published net reads images."""


def resnet20() -> Checkpoint:
    """The published ResNet-20 of CIFAR-10: 41 million multiply-accumulates."""
    names = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4"}
    rename = {"conv1.": "stem.0.", "bn1.": "stem.1.", "linear.": "head."}
    rename |= {f"layer{stage + 1}.{block}.{theirs}.": f"blocks.{3 * stage + block}.net.{ours}."
               for stage in range(3) for block in range(3) for theirs, ours in names.items()}  # fmt: skip
    return Checkpoint(
        name="resnet20-cifar10",
        file="resnet20-12fca82f.th",
        url="https://github.com/akamaster/pytorch_resnet_cifar10/tree/master/pretrained_models",
        net=Spec(name="cifar_resnet", args=NORMALISED),
        range=(-1, 1),
        prefix="module.",
        rename=rename,
        task={"name": "classify", "num_classes": len(CLASSES), "names": [*CLASSES], "size": 32, "channels": 3},
    )


def images(split: str) -> dict[str, JsonValue]:
    """CIFAR-10 as a source of labelled images."""
    return {"name": "npz", "args": {"path": "cifar10.npz", "split": split}}


@register("preset")
def classify() -> Recipe:
    """A classifier of CIFAR-10's kinds of pictures at an eighth of the cost, from a published ResNet-20: five minutes.

    Its soft answers, with the classes beside at a tenth. Where there is more time, `task.args.mix=both` mixes images.
    """
    changes: dict[str, Any] = {"shift": 0.125, "flip": 0.5}
    told: dict[str, Any] = {"images": images("train"), "evaluate": images("test"), "augment": changes,
                            "names": [*CLASSES]}  # fmt: skip
    soft = Guidance(name="logits", args={"temperature": 4.0})
    ratio = Spec(name="fixed", args={"alpha": 0.9})
    return Recipe(
        name="classify",
        task=Spec(name="classify", args=told),
        teacher=resnet20(),
        student=Spec(name="cifar_resnet", args={"width": 10, "depth": 1, **NORMALISED}),
        stages=(Stage(methods=(soft,), ratio=ratio, optimizer="muon", lr=5e-3, final=0.02),),
        seconds=85,
        batch_size=64,
        ema=0.98,
        cache=CacheSpec(inputs=20_000),
    )
