"""Configurations of UNet2DModel and its pipelines: read from folders, made of a few arguments, checked and scaled."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from kdgen.diffusion.prediction import Prediction
from kdgen.models.scaling import Args, Shapes, changed, fit_images, scaled_width
from kdgen.types import UserError, text

PIPELINES = ("DDIMPipeline", "DDPMPipeline")
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}
"""What diffusers calls a prediction, and what ``kdgen.diffusion`` calls it."""

SKIP_GROUPS = 32
"""The most groups of norms in blocks that images skip to, as those of NCSN++; multiples of it suit them all."""


def usual_config(
    channels: int, size: int, block_out_channels: Sequence[int], layers_per_block: int, *, attention_levels: int,
    attention_head_dim: int, norm_num_groups: int, mid_block: bool = True, dropout: float = 0.0,
    num_class_embeds: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A configuration of a UNet2DModel with attention at its coarsest levels; arguments as those of ``unet2d``.

    Raises:
        UserError: for a size that does not halve as often as there are levels.
    """
    levels = halved(size, len(block_out_channels))
    attend = [i >= levels - attention_levels for i in range(levels)]
    return {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": tuple(block_out_channels),
        "layers_per_block": layers_per_block,
        "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attend),
        "mid_block_type": "UNetMidBlock2D" if mid_block else None,
        "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)),
        "add_attention": attention_levels > 0,
        "attention_head_dim": attention_head_dim,
        "norm_num_groups": norm_num_groups,
        "dropout": dropout,
        "num_class_embeds": num_class_embeds,
    }


def check_images(config: Any) -> None:
    """Refuse a model of images that are not handled, by the configuration of a ``UNet2DModel``.

    Raises:
        UserError: saying what is not handled.
    """
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


def check_told(config: Any, predicts: str, until: bool) -> None:
    """Refuse a model that is told the noise level or a class as no table of timesteps can.

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
    if until and config.num_class_embeds is not None:
        raise UserError(text("unet2d_embeddings", "a unet2d has one embedding beside that of time: set until or "
                             "num_class_embeds, not both"))  # fmt: skip
    if config.time_embedding_type == "fourier":
        raise UserError(text("unet2d_fourier", "a UNet2DModel of Fourier features is told a noise level and no "
                             "timestep: give the folder of its ScoreSdeVePipeline"))  # fmt: skip
    if config.class_embed_type != ("timestep" if until else None):
        raise UserError(text("unet2d_told", "a unet2d is told the class by a table of num_class_embeds; another kind "
                             "of class_embed_type is not handled"))  # fmt: skip


def check_drawn(config: Any, pipeline: str, num_channels: tuple[int, ...]) -> None:
    """Refuse a model of images that a pipeline does not draw.

    Args:
        config: of a ``UNet2DModel``.
        pipeline: the class of the pipeline, which draws square images alone.
        num_channels: those that its images may have.

    Raises:
        UserError: saying what it draws.
    """
    if config.in_channels not in num_channels or not isinstance(config.sample_size, int):
        raise UserError(text("unet2d_drawn", "a {pipeline} draws square images of {channels: or } channels: give its "
                             "UNet2DModel a sample_size of one number and as many in_channels", pipeline=pipeline,
                             channels=[*num_channels]))  # fmt: skip
    if config.class_embed_type is not None or config.time_embedding_type == "learned":
        raise UserError(text("unet2d_embeds", "a {pipeline} tells a UNet2DModel a noise level that is no whole number, "
                             "and a class by a table of num_class_embeds; another kind of embedding is not handled",
                             pipeline=pipeline))  # fmt: skip


def scale_config(args: Args, scale: float) -> Iterator[Args]:
    """Widths in multiples of the groups and the heads, with any number of layers up to what is given."""
    config = args if args.get("config") is None else args["config"]
    kinds = [*config.get("down_block_types", ()), *config.get("up_block_types", ())]
    skipping = SKIP_GROUPS if any("Skip" in kind for kind in kinds) else 1
    given = [config.get(key) or 1 for key in ("norm_num_groups", "attn_norm_num_groups", "attention_head_dim")]
    multiple = math.lcm(skipping, *given)
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
