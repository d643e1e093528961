"""A student of a given cost for a given teacher: the largest net of a family within a share of its MACs.

How a family scales stands in one place, its entry in ``FAMILIES``.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kdgen import registry
from kdgen.devices import device_of, evaluating
from kdgen.metrics import cost
from kdgen.model import Model
from kdgen.registry import Use, nearest
from kdgen.types import Task, UserError

Args = dict[str, Any]

HALVINGS = 10
"""How often the interval of scales is halved in search of the best."""

LARGEST = 64.0
"""Largest scale, relative to the arguments that the search starts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A student to try.

    Attributes:
        use: the net by name, and its arguments.
        macs: multiply-accumulates of one call on the task's example.
        num_params: number of parameters.
        share: its MACs relative to the teacher's.
    """

    use: Use
    macs: int
    num_params: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a student must fit.

    Attributes:
        reads: shape of one input, ``(C, H, W)`` of an image or ``(Z, ...)`` of a latent.
        gives: shape of one answer of the teacher.
        task: what the task says of itself.
    """

    reads: tuple[int, ...]
    gives: tuple[int, ...]
    task: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How a family of nets is made to fit a task, and to a size.

    Attributes:
        scale: the arguments at a scale of 0 (the smallest net) or more, 1 for those given; one dict for each depth
            the family may have, and as many at every scale. Its MACs never fall as the scale rises.
        fit: arguments that the shapes settle.
        fresh: further ones for a teacher of another family, whose own arguments say nothing.
        tasks: those for which it is proposed to teachers of no family of their own; the first that fits is taken.
    """

    scale: Callable[[Args, float], Iterable[Args]]
    fit: Callable[[Shapes], Args]
    fresh: Callable[[Shapes], Args] = lambda shapes: {}
    tasks: tuple[str, ...] = ()


def propose(teacher: Model, task: Task, *, fraction: float, family: str | None = None) -> Proposal:
    """The largest student with at most a fraction of its teacher's multiply-accumulates.

    Args:
        teacher: the model to be cheaper than.
        task: its example is what the cost is counted on.
        fraction: of the teacher's MACs, above 0 and below 1.
        family: a net of ``FAMILIES``; by default the teacher's own, or the task's usual one for a teacher of none.

    Raises:
        UserError: for a fraction that is none or that the family does not reach, and for a family that is unknown or
            does not fit the task.
    """
    if not 0 < fraction < 1:
        raise UserError(f"a student has a fraction of its teacher's MACs, above 0 and below 1, not {fraction:g}")
    example = task.example()
    whole = cost.macs(teacher.net, example.x, example.cond)
    name, start = _start(teacher, _shapes(teacher, task), family)
    known: dict[str, Proposal] = {}

    def at(depth: int, scale: float) -> Proposal:
        use = Use(name=name, args=list(FAMILIES[name].scale(start, scale))[depth])
        if (key := repr(use)) not in known:
            net = registry.build("net", use)
            macs = cost.macs(net, example.x, example.cond)
            known[key] = Proposal(use=use, macs=macs, num_params=cost.num_params(net), share=macs / whole)
        return known[key]

    smallest, found = math.inf, list[Proposal]()
    for depth in range(len(list(FAMILIES[name].scale(start, 1.0)))):
        least = at(depth, 0.0)
        smallest = min(smallest, least.share)
        if least.share <= fraction:
            found.append(_largest(partial(at, depth), fraction))
    if not found:
        reached = math.ceil(1000 * smallest) / 1000
        raise UserError(f"the smallest {name} for this has {reached:g} of the MACs of {teacher.name}: ask for that or "
                        "more, or for another net")  # fmt: skip
    return max(found, key=lambda proposal: proposal.macs)


def _largest(at: Callable[[float], Proposal], fraction: float) -> Proposal:
    """The largest net within the bound, where that of scale 0 is: by doubling, then by halving the interval."""
    best, low, high = at(0.0), 0.0, 1.0
    while high <= LARGEST and (larger := at(high)).share <= fraction:
        best, low, high = larger, high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if (candidate := at(middle)).share <= fraction:
            best, low = candidate, middle
        else:
            high = middle
    return best


def _shapes(teacher: Model, task: Task) -> Shapes:
    example, where = task.example(), device_of(teacher.net)
    batch = example.to(where)
    with evaluating(teacher.net):
        gives = tuple(teacher.net(batch.x, **batch.cond).shape[1:])
    said: Mapping[str, Any] = task.describe()
    if said.get("name") == "generate":
        gives = (gives[0], said["size"], said["size"])
    return Shapes(reads=tuple(example.x.shape[1:]), gives=gives, task=said)


def _start(teacher: Model, shapes: Shapes, family: str | None) -> tuple[str, Args]:
    """The family, and its arguments at a scale of 1."""
    own = teacher.use.name if teacher.use is not None else None
    if family is not None and family not in FAMILIES:
        raise UserError(f"no net called {family!r} is known to scale{nearest(family, FAMILIES)}")
    name = family or (own if own in FAMILIES else None)
    if name is not None and name == own and teacher.use is not None:
        return name, _spelled_out(name, {**teacher.use.args, **FAMILIES[name].fit(shapes)})
    known = [key for key, each in FAMILIES.items() if shapes.task.get("name") in each.tasks]
    for key in known if name is None else [name]:
        args = _spelled_out(key, {**FAMILIES[key].fit(shapes), **FAMILIES[key].fresh(shapes)})
        try:
            registry.build("net", Use(name=key, args=args))
        except UserError:
            if name is not None:
                raise
        else:
            return key, args
    raise UserError(f"no net is known that does what {teacher.name} does: name one of {', '.join(sorted(FAMILIES))}")


def _spelled_out(name: str, args: Args) -> Args:
    return registry.spelled_out("net", Use(name=name, args=args)).args


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
    return {"latent": math.prod(shapes.reads), "channels": shapes.gives[0], "size": shapes.gives[-1]}


def _reads(shapes: Shapes) -> Args:
    return {"channels": shapes.reads[0]}


def _reads_sized(shapes: Shapes) -> Args:
    return {"channels": shapes.reads[0], "size": shapes.reads[-1]}


def _decodes(shapes: Shapes) -> Args:
    return {"latent": shapes.reads[0], "channels": shapes.gives[0]}


def _told(shapes: Shapes) -> Args:
    return {"sigma_map": isinstance(shapes.task.get("sigma"), Sequence)}


def _up(shapes: Shapes) -> Args:
    return {"widths": _levels(shapes.gives[-1], shapes.reads[-1])}


def _down(shapes: Shapes) -> Args:
    return {"widths": _levels(shapes.reads[-1], shapes.gives[-1]), "latent": shapes.gives[0], "mean": True}


def _levels(large: int, small: int) -> list[int]:
    """Widths at full, half... resolution down to the size of latents, 32 channels more at each."""
    return [32 * (level + 1) for level in range((large // small).bit_length())]


FAMILIES: dict[str, Family] = {
    "conv_generator": Family(scale=_widths("width"), fit=_draws, tasks=("generate",)),
    "mlp_generator": Family(scale=_widths("hidden"), fit=_draws, tasks=("generate",)),
    "vae": Family(scale=_widths("widths", "blocks"), fit=_reads, tasks=("autoencode",)),
    "vae_decoder": Family(scale=_widths("widths", "blocks"), fit=_decodes, fresh=_up, tasks=("decode",)),
    "vae_encoder": Family(scale=_widths("widths", "blocks"), fit=_reads, fresh=_down, tasks=("encode",)),
    "mlp_vae": Family(scale=_widths("hidden"), fit=_reads_sized),
    "autoencoder_tiny": Family(scale=_autoencoder_tiny, fit=_reads),
    "autoencoder_kl": Family(scale=_autoencoder_kl, fit=_reads_sized),
    "unet2d": Family(scale=_unet2d, fit=_reads_sized, tasks=("diffuse",)),
    "half_res": Family(scale=_widths("width", "blocks"), fit=_reads, fresh=_told, tasks=("denoise",)),
    "unet": Family(scale=_widths("widths", "blocks"), fit=_reads),
    "dncnn": Family(scale=_widths("width"), fit=_reads),
    "ffdnet": Family(scale=_widths("width"), fit=_reads),
    "patch_mlp": Family(scale=_widths("width"), fit=_reads),
}
"""How nets scale, by name."""
