"""The presets made for GPUs, some seconds each, up to their reports."""

import math
from collections.abc import Iterator
from functools import partial

from gpu.ledger import Item, Outcome, Setup
from kdgen import Recipe, distill, preset, registry
from kdgen.recipe import override
from kdgen.report.report import Report

FIRST = ("gan_gpu", "diffusion_gpu", "autoencoder_gpu", "vae_gpu", "vae_decoder_gpu")
"""In case that there is not the time for all of them."""
AFTER = 15.0
"""Seconds that a report may take."""
LITTLE = ("batch_size=4", "cache.inputs=8", "task.args.num_images=16", "steps=2")
LITTLE_DIFFUSION = ("task.args.num_steps=2", "task.args.images.args.num_images=8", "task.args.images.args.num_steps=2")


def items(setup: Setup) -> Iterator[Item]:
    """All presets whose names end in ``_gpu``; two of them where it is to be quick."""
    rest = [name for name in registry.names("preset") if name.endswith("_gpu") and name not in FIRST]
    for name in FIRST[:2] if setup.quick else (*FIRST, *rest):
        recipe = preset(name).model_copy(update={"device": setup.device, "controls": False})
        recipe = recipe.lasting(seconds=setup.seconds)
        if setup.quick:
            recipe = override(recipe, LITTLE + (LITTLE_DIFFUSION if recipe.task.name == "diffuse" else ()))
        yield Item(
            recipe.name,
            partial(distilled, recipe, setup),
            needs=1.0 if setup.quick else setup.seconds + AFTER,
        )


def distilled(recipe: Recipe, setup: Setup) -> Outcome:
    """A run to its end: what was asked, how fast it learnt, and what its student is worth beside its teacher."""
    folder, figures, warned, speeds = setup.scratch / recipe.name, dict[str, object](), list[str](), list[float]()
    for event in distill(recipe, folder):
        if event.kind == "start":
            figures["bfloat16"] = event.data["state"]["bfloat16_pays"]
        if event.kind == "answers":
            figures |= {"answers": event.data["done"], "s for answers": float(event.data["seconds"])}
        if event.kind == "step":
            speeds.append(event.data["images_per_second"])
        if event.kind == "warning":
            warned.append(event.data["message"])
        if event.kind == "phase":
            figures |= {"steps": event.data["steps"], "s of training": float(event.data["seconds"])}
    report = Report.read(folder)
    student, teacher = report.find("student"), report.find("teacher")
    assert student is not None, "the report lacks the student"
    assert teacher is not None, "the report lacks the teacher"
    if speeds:
        figures["images/s"] = sorted(speeds)[len(speeds) // 2]
    figures |= {"student ms": student.latency_ms, "teacher ms": teacher.latency_ms}
    kept = {
        name: value
        for name, value in student.metrics.items()
        if name in (report.primary_metric, "psnr", "psnr@teacher")
    }
    finite = all(math.isfinite(value) for value in student.metrics.values())
    return Outcome(figures={**figures, **kept}, apart={"figures that are not finite": (float(not finite), 0.0)},
                   note=" ".join(warned)[:200])  # fmt: skip
