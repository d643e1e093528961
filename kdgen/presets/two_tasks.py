"""Two tasks in one small net, each from a teacher of its own; and the classifiers that teach the second one.

Paths are relative to where the command runs: `fashion-mnist` holds the IDX files of Fashion-MNIST (MIT), and
`pneumoniamnist.npz` is that of MedMNIST (CC BY 4.0, https://medmnist.com). Train the classifier first, into its own
folder below `runs`: `kdgen distill clothes-teacher`, then `kdgen distill two-teachers`.
"""

from typing import Any

from pydantic import JsonValue

from kdgen.presets.teachers import clothes, untaught
from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

SIGMA = 50.0
"""Of the noise that students take away, in 8-bit units: as that of a dose or a light that is far too low."""

FULL = 10.0
"""Of the noise that the denoiser sees and has seen before: as that of a full dose of light."""


def classifying(**args: Any) -> dict[str, JsonValue]:
    """To tell the classes of grey images, as a task."""
    return {"name": "classify", "args": {"channels": 1, **args}}


def clothes_told() -> dict[str, JsonValue]:
    """To tell ten kinds of clothes."""
    return classifying(images=clothes(labelled=True), evaluate=clothes("t10k", labelled=True), num_images=2000)


def x_rays(split: str) -> dict[str, JsonValue]:
    """PneumoniaMNIST as a source of images: chest X-rays of children, of which most show a pneumonia."""
    return {"name": "npz", "args": {"path": "pneumoniamnist.npz", "split": split}}


def x_rays_told() -> dict[str, JsonValue]:
    """To tell X-rays with a pneumonia from those without."""
    return classifying(images=x_rays("train"), evaluate=x_rays("test"), patch=28)


def classifier(name: str, task: Any, *, classes: int, seconds: float) -> Recipe:
    """A classifier that is to teach, from labels alone."""
    return untaught(
        name=name,
        task=Spec.model_validate(task),
        student=Spec(name="feature_net", args={"classes": classes, "channels": 1}),
        stages=(Stage(name="train", optimizer="muon", lr=3e-3, weight_decay=0.01),),
        seconds=seconds,
        batch_size=64,
        evaluate_every=60,
    )


def two_tasks(name: str, told: Any, teacher: str) -> Recipe:
    """A small net that takes away noise and tells classes, from the bundled denoiser and a classifier.

    Its teachers see more: the denoiser little noise, and the classifier none. The truth counts as much as they do.
    """
    tasks: JsonValue = {"restore": {"name": "denoise", "args": {"sigma": FULL, "loss": "l1"}}, "classify": told}
    together: JsonValue = {"name": "together", "args": {"tasks": tasks, "weights": {"classify": 0.05}}}
    noise: JsonValue = {"name": "noise", "args": {"sigma": round((SIGMA**2 - FULL**2) ** 0.5, 2)}}
    methods = (
        Guidance(name="output", args={"loss": "l1"}),
        Guidance(name="logits", teacher="classify", args={"temperature": 2}, weight=0.1),
    )
    ratio = Spec(name="fixed", args={"alpha": 0.5})
    return Recipe(
        name=name,
        task=Spec(name="views", args={"task": together, "student": [noise]}),
        teacher="denoiser",
        teachers={"classify": teacher},
        student=Spec(name="two_headed"),
        stages=(
            Stage(share=0.9, methods=methods, ratio=ratio, optimizer="muon", lr=4e-3, final=0.1),
            Stage(name="fine-tune", share=0.1, methods=methods, ratio=ratio, optimizer="muon", lr=4e-4, warmup=0),
        ),
        seconds=70,
        batch_size=32,
        cache=CacheSpec(inputs=8000),
    )


@register("preset")
def clothes_teacher() -> Recipe:
    """A classifier of clothes that teaches `two-teachers`, from Fashion-MNIST alone."""
    return classifier("clothes-teacher", clothes_told(), classes=10, seconds=200)


@register("preset")
def two_teachers() -> Recipe:
    """A small net for noisy pictures of clothes: it takes off the noise and says which these are.

    Its two teachers see the same pictures under little noise, and without any.
    """
    return two_tasks("two-teachers", clothes_told(), "./runs/clothes-teacher")


@register("preset")
def diagnose_teacher() -> Recipe:
    """A classifier of chest X-rays that teaches `diagnose`, from PneumoniaMNIST alone. No medical device."""
    return classifier("diagnose-teacher", x_rays_told(), classes=2, seconds=100)


@register("preset")
def diagnose() -> Recipe:
    """A small net for chest X-rays of a low dose: it takes off the noise and tells a pneumonia. No medical device.

    Its two teachers see the same X-rays at a full dose, and without noise.
    """
    return two_tasks("diagnose", x_rays_told(), "./runs/diagnose-teacher")
