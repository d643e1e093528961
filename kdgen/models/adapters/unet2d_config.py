"""Configurations of UNet2DModel and its pipelines: read from folders, made of a few arguments, checked and scaled."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdgen.diffusion.prediction import Prediction
from kdgen.models.adapters.adapter import INDEX, check_class, part_folder
from kdgen.models.adapters.pretrained import public, read_json
from kdgen.models.adapters.schedulers import SCHEDULERS, STEPPED
from kdgen.models.scaling import Args, Shapes, changed, fit_images, scaled_width
from kdgen.types import UserError, text

PIPELINES = ("DDIMPipeline", "DDPMPipeline")
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}
"""What diffusers calls a prediction, and what ``kdgen.diffusion`` calls it."""


def pipeline_arguments(folder: Path) -> dict[str, Any]:
    """The arguments of ``unet2d`` for a pipeline folder, by its configurations alone.

    Raises:
        UserError: for a part of a class that is not handled, and for missing or damaged files.
    """
    index = read_json(folder / INDEX)
    unet, scheduler = ((index.get(part) or [None, None])[-1] for part in ("unet", "scheduler"))
    check_class("unet", unet, ("UNet2DModel",), folder)
    name = check_class(text("scheduler", "scheduler"), scheduler, SCHEDULERS, folder)
    config = public(read_json(part_folder(folder, "scheduler") / "scheduler_config.json"))
    return {
        "scheduler": {"_class_name": name, **config},
        "config": public(read_json(part_folder(folder, "unet") / "config.json")),
        "pipeline": index["_class_name"] if name in STEPPED else "DDIMPipeline",
    }


def check_config(config: Any, predicts: str, until: bool) -> None:
    """Refuse a model that is not handled.

    Args:
        config: of a ``UNet2DModel``.
        predicts: the prediction type of its scheduler.
        until: whether it reads the noise level at which a step ends.

    Raises:
        UserError: saying what is not handled.
    """
    if predicts not in PREDICTIONS:
        raise UserError(text("unet2d_predicts", "a unet2d predicts {names:, }, not {predicts}", names=[*PREDICTIONS],
                             predicts=str(predicts)))  # fmt: skip
    if config.out_channels != config.in_channels:
        raise UserError(text("unet2d_outputs", "a unet2d gives as many channels as it reads; this one gives {given} "
                             "of {read} (it predicts variances, perhaps), which is not handled",
                             given=config.out_channels, read=config.in_channels))  # fmt: skip
    if config.in_channels not in (1, 3):
        raise UserError(text("unet2d_channels", "a unet2d is one of images of 1 or 3 channels; this one has "
                             "{channels} (it is one of latents, perhaps), which is not handled",
                             channels=config.in_channels))  # fmt: skip
    halvings = len(config.block_out_channels) - 1
    size = config.sample_size
    sides = [size] if isinstance(size, int) else size or []
    if any(side % 2**halvings for side in sides):
        raise UserError(text("unet2d_sample_size", "a unet2d halves its images {times} times: its sample_size is a "
                             "multiple of {multiple}, not {size}, of which it draws nothing", times=halvings,
                             multiple=2**halvings, size=str(size)))  # fmt: skip
    if until and config.num_class_embeds is not None:
        raise UserError(text("unet2d_embeddings", "a unet2d has one embedding beside that of time: set until or "
                             "num_class_embeds, not both"))  # fmt: skip
    if config.time_embedding_type == "fourier" or config.class_embed_type != ("timestep" if until else None):
        raise UserError(text("unet2d_told", "a unet2d is told the timestep by a positional or learned embedding, and "
                             "the class by a table of num_class_embeds; another kind is not handled"))  # fmt: skip


def scale_config(args: Args, scale: float) -> Iterator[Args]:
    """Widths in multiples of the groups and the heads, with any number of layers up to what is given."""
    config = args if args.get("config") is None else args["config"]
    multiple = math.lcm(config.get("norm_num_groups") or 1, config.get("attention_head_dim") or 1)
    widths = scaled_width(config["block_out_channels"], scale, multiple)
    for number in range(config.get("layers_per_block", 2), 0, -1):
        yield changed(args, {"block_out_channels": widths, "layers_per_block": number})


def fit_config(shapes: Shapes) -> Args:
    """The arguments of ``unet2d`` that the shapes settle."""
    until = {"until": True} if "until" in shapes.conditions else {}
    return fit_images(shapes) | shapes.classes("num_class_embeds") | until


def halved(size: int, levels: int) -> int:
    """The levels of a net, at each of which a height and width halve. Raises UserError where they do not."""
    if size % (multiple := 2 ** (levels - 1)):
        raise UserError(text("unet2d_multiple", "unet2d halves its images {times} times: make size a multiple of "
                             "{multiple}", times=levels - 1, multiple=multiple))  # fmt: skip
    return levels


def check_pipeline(name: str) -> None:
    """Refuse another pipeline than those that draw. Raises UserError."""
    if name not in PIPELINES:
        raise UserError(text("unet2d_pipeline", "a unet2d is written as {names: or }, not {pipeline}",
                             names=[*PIPELINES], pipeline=str(name)))  # fmt: skip
