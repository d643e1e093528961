"""How nets of latents are made smaller: fewer layers, and fewer heads or narrower channels, all in one ratio."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kdgen.models.adapters.blocks import evenly_kept
from kdgen.models.adapters.pretrained import whole_config
from kdgen.models.scaling import Args, Family, Shapes, changed, scaled_width

DEPTHS = 4
"""How many depths are tried, evenly spaced, of nets with more layers."""

ARGUMENTS = {"num_layers": "depth", "num_single_layers": "single_depth", "num_attention_heads": "heads"}
"""Entries of the configuration of a transformer, and the arguments of its net that say them."""


COUNTED = ("layers_per_block", "transformer_layers_per_block")
"""Entries of the configuration of a U-Net that count layers."""


def transformer(
    model: str, *, layers: Sequence[str] = ("num_layers",), heads: Sequence[str] = ("num_attention_heads",),
    widths: Sequence[str] = (), multiple: Callable[[Mapping[str, Any]], int] = lambda config: 1,
) -> Family:  # fmt: skip
    """A family of transformers of latents, whose width is its heads times their channels.

    Args:
        model: the class of diffusers.
        layers: entries of its configuration that count layers, the first of which are numbered in
            ``dual_attention_layers`` where there are such.
        heads: entries that count heads, those of the width first.
        widths: entries that are its width too.
        multiple: what the heads are a multiple of.
    """

    def scale(args: Args, scale: float) -> Iterator[Args]:
        own = {key: args[name] for key, name in ARGUMENTS.items() if name in args}
        config = own if args.get("config") is None else whole_config(model, args["config"])
        changes: Args = {heads[0]: scaled_width(config[heads[0]], scale, multiple(config))}
        changes |= {key: scaled_width(config[key], scale) for key in heads[1:] if config.get(key)}
        if config is not own:
            changes |= dict.fromkeys(widths, changes[heads[0]] * config["attention_head_dim"])
        for depth, of in _depths(max(config[key] for key in layers)):
            changes |= {key: _share(config[key], depth, of) for key in layers}
            if dual := config.get("dual_attention_layers"):
                kept = evenly_kept(changes[layers[0]], config[layers[0]])
                changes["dual_attention_layers"] = [i for i, layer in enumerate(kept) if layer in dual]
            named = {ARGUMENTS[key]: value for key, value in changes.items() if key in ARGUMENTS}
            yield {**args, **named} if config is own else changed(args, changes)

    return Family(scale=scale, fit=lambda shapes: {}, fresh=_fresh, largest=1.0)


def unet(model: str) -> Family:
    """A family of U-Nets of latents: all channels in one ratio, so that groups of norms stay groups across skips.

    A net has as many heads at every level where its configuration says one number of them; where it says one for each
    level, their channels stay. The shallowest is tried without its block in the middle too, as in BK-SDM (Kim et al.
    2024, section 3.1).

    Args:
        model: the class of diffusers.
    """

    def scale(args: Args, scale: float) -> Iterator[Args]:
        config = args if args.get("config") is None else whole_config(model, args["config"])
        narrow = _narrow(config, scale)
        counted = {key: config[key] for key in COUNTED if key in config}
        shallower = [{key: _share(value, *depth) for key, value in counted.items()}
                     for depth in [*_depths(max(map(_most, counted.values())))][1:]]  # fmt: skip
        yield changed(args, narrow)
        middle, none = ("mid_block", False) if config is args else ("mid_block_type", None)
        if config[middle]:
            yield changed(args, {**narrow, **(shallower or [counted])[0], middle: none})
        for layers in shallower:
            yield changed(args, {**narrow, **layers})

    return Family(scale=scale, fit=lambda shapes: {}, fresh=_fresh, largest=1.0)


def _narrow(config: Mapping[str, Any], scale: float) -> Args:
    """Channels in one ratio, in multiples of what groups and heads allow."""
    widths, heads = config["block_out_channels"], config["attention_head_dim"]
    least, one = math.gcd(*widths), isinstance(heads, int)
    ratios = [width // least for width in widths]
    divisors = [heads] * len(widths) if one else [width // count for width, count in zip(widths, heads, strict=True)]
    steps = (divisor // math.gcd(divisor, ratio) for divisor, ratio in zip(divisors, ratios, strict=True))
    unit = scaled_width(least, scale, math.lcm(config["norm_num_groups"] or 1, *steps))
    narrow = [ratio * unit for ratio in ratios]
    counts = [width // divisor for width, divisor in zip(narrow, divisors, strict=True)]
    return {"block_out_channels": narrow, **({} if one else {"attention_head_dim": counts})}


def _depths(most: int) -> Iterator[tuple[int, int]]:
    """Depths as shares ``(number, of)`` of that of so many layers: all of them, then from few on."""
    of = min(most, DEPTHS)
    yield of, of
    yield from ((number, of) for number in range(1, of))


def _share(count: Any, number: int, of: int) -> Any:
    """A share of a number of layers, at least one of any; of a list of numbers one of each."""
    return -(-count * number // of) if isinstance(count, int) else [_share(each, number, of) for each in count]


def _most(count: Any) -> int:
    """A number of layers; the largest of a list of such."""
    return count if isinstance(count, int) else max(map(_most, count))


def _fresh(shapes: Shapes) -> Args:
    """What the latents settle."""
    return {"latent_channels": shapes.inputs[0], "size": shapes.inputs[-1]}
