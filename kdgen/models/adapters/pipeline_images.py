"""Images drawn by a pipeline of diffusers: as many at once as fit, each of noise of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdgen.models.parts import Drawn, at_once, in_parts

USAGE = """from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("{repo}")
pipeline({steps}).images[0].save("image.png")"""

CLASS_USAGE = """import torch
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("{repo}")
classes = {{"class_labels": torch.tensor([0])}}  # one an image
pipeline.unet.register_forward_pre_hook(lambda net, args, kwargs: (args, {{**kwargs, **classes}}), with_kwargs=True)
pipeline({steps}).images[0].save("image.png")"""


def pipeline_usage(repo: str, pipeline: str, task: Mapping[str, Any]) -> str:
    """Lines that draw an image with a pipeline of a class, in the first number of steps that the task names."""
    steps = next(iter(task.get("steps", ())), None)
    lines = CLASS_USAGE if task.get("num_classes") else USAGE
    return lines.format(repo=repo, pipeline=pipeline, steps=f"num_inference_steps={steps}" if steps else "")


def pipeline_images(
    pipe: Any,
    hook: Callable[[int, int], Any],
    num_images: int,
    *,
    seed: int,
    num_steps: int,
    together: int | None = None,
    progress: Drawn | None = None,
) -> Tensor:
    """Draw images with a pipeline around a ``UNet2DModel`` in evaluation mode.

    Image ``i`` is drawn by a generator of its own, seeded with the ``i``-th number of ``image_seeds``: the same however
    many are drawn, and but for the rounding of sums however many at once.

    Args:
        pipe: the pipeline.
        hook: given the numbers of the first image of a part and of the first after it, a forward pre-hook that passes
            the net what a pipeline does not.
        num_images: N.
        seed: of all.
        num_steps: of the scheduler.
        together: how many at once at most; by default as many as fit.
        progress: told how many are drawn, and of how many.

    Returns:
        ``(N, C, H, W)`` in [-1, 1] on the CPU.
    """
    seeds = image_seeds(seed, num_images)
    side = pipe.unet.config.sample_size
    height, width = (side, side) if isinstance(side, int) else side

    def make(begin: int, end: int) -> Tensor:
        generators = [torch.Generator().manual_seed(each) for each in seeds[begin:end]]
        handle = pipe.unet.register_forward_pre_hook(hook(begin, end), with_kwargs=True)
        try:
            with torch.random.fork_rng([]):  # some draw without the generators what the hook replaces
                images = pipe(end - begin, generator=generators, num_inference_steps=num_steps, output_type="np").images
        finally:
            handle.remove()
        return torch.from_numpy(images).movedim(-1, 1).contiguous() * 2 - 1

    return torch.cat(list(in_parts(num_images, together or at_once(height * width), make, progress)))


def image_seeds(seed: int, num_images: int) -> list[int]:
    """A seed for each image, the first ones the same however many there are."""
    seeds: list[int] = torch.randint(2**63 - 1, (num_images,), generator=torch.Generator().manual_seed(seed)).tolist()
    return seeds


def class_hook(num_classes: int, label: Tensor | None, begin: int, end: int) -> Any:
    """A hook that passes a class-conditional net the classes of some images: those given, or else all in turn."""
    classes = torch.arange(begin, end) % num_classes if label is None else label[begin:end]
    return lambda unet, args, kwargs: (args, {**kwargs, "class_labels": classes.to(unet.device)})


def end_hook(scheduler: Any) -> Any:
    """A hook that passes a net of average velocities the timestep after the present one, and 0 after the last."""

    def hook(unet: Any, args: Any, kwargs: Any) -> Any:
        later = [int(t) for t in scheduler.timesteps if t < args[1]]
        end = torch.full((len(args[0]),), max(later, default=0), device=args[0].device)
        return args, {**kwargs, "class_labels": end}

    return hook
