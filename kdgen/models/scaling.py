"""How families of nets are made to fit a task and scaled to a cost: one entry each."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdgen import registry
from kdgen.types import Task

Args = dict[str, Any]

SIZES = ("width", "widths", "depth")
"""Arguments by which a net of the user's own scales: the first that it has, at every depth up to what is given."""

START = {"width": 32, "widths": [32, 64], "depth": 8}
"""What they are at a scale of 1 where such a net has no default."""

SETTLED = ("latent", "size", "channels", "num_classes")
"""Arguments of such a net that the task settles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a student must fit.

    Attributes:
        reads: shape of one input, ``(C, H, W)`` of an image or ``(Z, ...)`` of a latent.
        gives: shape of one answer of the teacher.
        task: what the task says of itself.
        told: the conditions that it reads.
    """

    reads: tuple[int, ...]
    gives: tuple[int, ...]
    task: Mapping[str, Any]
    told: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How a family of nets is made to fit a task, and to a size.

    Attributes:
        scale: the arguments at a scale of 0 (the smallest net) or more, 1 for those given; one dict for each depth
            the family may have, and as many at every scale. Its MACs never fall as the scale rises.
        fit: arguments that the shapes settle.
        fresh: further ones for a teacher of another family, whose own arguments say nothing.
        does: attributes of the tasks for which it is proposed to teachers of no family of their own; the first family
            that fits is taken. Empty where it is not.
    """

    scale: Callable[[Args, float], Iterable[Args]]
    fit: Callable[[Shapes], Args]
    fresh: Callable[[Shapes], Args] = lambda shapes: {}
    does: Mapping[str, Any] = field(default_factory=dict)

    def suits(self, task: type[Task]) -> bool:
        """Whether it is proposed for a task of this class."""
        return bool(self.does) and all(getattr(task, key) == value for key, value in self.does.items())


def scales(name: str) -> bool:
    """Whether a net of this name is known to scale."""
    return name in FAMILIES or (name in registry.names("net") and any(registry.accepts("net", name, k) for k in SIZES))


def family(name: str) -> Family:
    """How a net scales: by its entry, or one of the user's own by its width and its depth."""
    if name in FAMILIES:
        return FAMILIES[name]
    sizes = [key for key in SIZES if registry.accepts("net", name, key)]
    missing = {key: START[key] for key in sizes if registry.default("net", name, key) is None}

    def fit(shapes: Shapes) -> Args:
        known = {
            "latent": math.prod(shapes.reads),
            "size": shapes.gives[-1],
            "channels": shapes.gives[0],
            **shapes.task,
        }
        return registry.accepted("net", name, {key: known[key] for key in SETTLED if key in known})

    depth = "depth" if len(sizes) > 1 and "depth" in sizes else None
    return Family(scale=_widths(sizes[0], depth), fit=fit, fresh=lambda shapes: missing)


def _scaled(value: Any, scale: float, multiple: int = 1) -> Any:
    """A width or a list of them, scaled to multiples of a number and at least that."""
    if isinstance(value, Sequence):
        return [_scaled(each, scale, multiple) for each in value]
    return max(round(value * scale / multiple), 1) * multiple


def _widths(key: str, depth: str | None = None) -> Callable[[Args, float], Iterator[Args]]:
    """Scale a width or widths, for every depth from what is given down to 1."""

    def scale(args: Args, scale: float) -> Iterator[Args]:
        wide = {**args, key: _scaled(args[key], scale)}
        yield wide
        if depth is not None:
            for number in range(1, args[depth]):
                yield {**wide, depth: number}

    return scale


def _unet2d(args: Args, scale: float) -> Iterator[Args]:
    """Widths in multiples of the groups and the heads, with any number of layers up to what is given."""
    inner = args if args.get("config") is None else args["config"]
    multiple = math.lcm(inner.get("norm_num_groups") or 1, inner.get("attention_head_dim") or 1)
    wide = {"block_out_channels": _scaled(inner["block_out_channels"], scale, multiple)}
    for number in range(inner.get("layers_per_block", 2), 0, -1):
        yield _within(args, {**wide, "layers_per_block": number})


def _autoencoder_kl(args: Args, scale: float) -> Iterator[Args]:
    inner = args if args.get("config") is None else args["config"]
    multiple = inner.get("norm_num_groups", 32)
    yield _within(args, {"block_out_channels": _scaled(inner["block_out_channels"], scale, multiple)})


def _autoencoder_tiny(args: Args, scale: float) -> Iterator[Args]:
    if args.get("config") is None:
        yield {**args, "width": _scaled(args["width"], scale)}
    else:
        keys = ("encoder_block_out_channels", "decoder_block_out_channels")
        yield _within(args, {key: _scaled(args["config"][key], scale) for key in keys})


def _within(args: Args, changes: Args) -> Args:
    """Arguments with changes, in the configuration where there is one."""
    return {**args, **changes} if args.get("config") is None else {**args, "config": {**args["config"], **changes}}


def _draws(shapes: Shapes) -> Args:
    settled = {"latent": math.prod(shapes.reads), "channels": shapes.gives[0], "size": shapes.gives[-1]}
    return settled | _classes("num_classes", shapes)


def _reads(shapes: Shapes) -> Args:
    return {"channels": shapes.reads[0]}


def _reads_sized(shapes: Shapes) -> Args:
    return {"channels": shapes.reads[0], "size": shapes.reads[-1]}


def _diffuses(shapes: Shapes) -> Args:
    until = {"until": True} if "until" in shapes.told else {}
    return _reads_sized(shapes) | _classes("num_class_embeds", shapes) | until


def _decodes(shapes: Shapes) -> Args:
    return {"latent": shapes.reads[0], "channels": shapes.gives[0]}


def _told(shapes: Shapes) -> Args:
    return {"sigma_map": "sigma" in shapes.told}


def _classes(key: str, shapes: Shapes) -> Args:
    return {key: shapes.task.get("num_classes", 0)} if "label" in shapes.told else {}


def _up(shapes: Shapes) -> Args:
    return {"widths": _levels(shapes.gives[-1], shapes.reads[-1])}


def _down(shapes: Shapes) -> Args:
    return {"widths": _levels(shapes.reads[-1], shapes.gives[-1]), "latent": shapes.gives[0], "mean": True}


def _levels(large: int, small: int) -> list[int]:
    """Widths at full, half... resolution down to the size of latents, 32 channels more at each."""
    return [32 * (level + 1) for level in range((large // small).bit_length())]


FAMILIES: dict[str, Family] = {
    "conv_generator": Family(scale=_widths("width"), fit=_draws, does={"draws": "latents"}),
    "mlp_generator": Family(scale=_widths("hidden"), fit=_draws, does={"draws": "latents"}),
    "vae": Family(scale=_widths("widths", "blocks"), fit=_reads, does={"half": "whole"}),
    "vae_decoder": Family(scale=_widths("widths", "blocks"), fit=_decodes, fresh=_up, does={"half": "decoder"}),
    "vae_encoder": Family(scale=_widths("widths", "blocks"), fit=_reads, fresh=_down, does={"half": "encoder"}),
    "mlp_vae": Family(scale=_widths("hidden"), fit=_reads_sized),
    "autoencoder_tiny": Family(scale=_autoencoder_tiny, fit=_reads),
    "autoencoder_kl": Family(scale=_autoencoder_kl, fit=_reads_sized),
    "unet2d": Family(scale=_unet2d, fit=_diffuses, does={"draws": "noise"}),
    "half_res": Family(scale=_widths("width", "blocks"), fit=_reads, fresh=_told, does={"takes_sigma": True}),
    "unet": Family(scale=_widths("widths", "blocks"), fit=_reads),
    "dncnn": Family(scale=_widths("width"), fit=_reads),
    "ffdnet": Family(scale=_widths("width"), fit=_reads),
    "patch_mlp": Family(scale=_widths("width"), fit=_reads),
}
"""How nets scale, by name."""
