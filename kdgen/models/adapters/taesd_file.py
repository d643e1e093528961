"""Files of tiny autoencoders in the layout of TAESD (Ollin Boer Bohan, github.com/madebyollin/taesd), a half in each.

A half is one chain of numbered layers: of the encoder those of diffusers' AutoencoderTiny, of the decoder the same one
number later, behind the squashing of latents. Images are in [0, 1], which diffusers' model converts.
"""

import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from kdgen.models.adapters.autoencoder import whole_of
from kdgen.models.adapters.autoencoder_half import AutoencoderHalf
from kdgen.models.adapters.autoencoder_tiny import AutoencoderTiny
from kdgen.models.adapters.module import HALVES, Half
from kdgen.models.adapters.pretrained import construct, quiet
from kdgen.models.task_arguments import task_having
from kdgen.registry import Spec
from kdgen.types import UserError, text
from kdgen.utils.validation import check_finite, check_numbers

FILE = "taesd_{half}.safetensors"
FIRST = {"encoder": 0, "decoder": 1}
"""The number of the first layer that has weights."""

LAYER = re.compile(r"(\d+)\.(conv\.[024]\.)?(?:weight|bias)")
"""What weights are called: the number of a layer, and where in a block they lie."""


def write_taesd(net: nn.Module, folder: Path) -> list[Path]:
    """Write each half of a tiny autoencoder as a file, `taesd_encoder.safetensors` and `taesd_decoder.safetensors`.

    Args:
        net: an ``autoencoder_tiny``, or a half of one.
        folder: where to; it is made.

    Returns:
        the files, the encoder first.

    Raises:
        UserError: for another net, and for one whose latents pipelines scale.
    """
    whole = whole_of(net)
    if not isinstance(whole, AutoencoderTiny):
        raise UserError(text("taesd_tiny", "taesd is the layout of an autoencoder_tiny, not of a {type}: distil into a "
                             "student of that name, and export it", type=type(whole).__name__))  # fmt: skip
    mean, deviation = whole.statistics(torch.zeros(1))
    if mean.any() or (deviation != 1).any():
        raise UserError(text("taesd_scaled", "latents of taesd are as models learn them, and pipelines scale those of "
                             "this one: distil its teacher into a new autoencoder_tiny"))  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for half in [net.part] if isinstance(net, Half) else HALVES:
        own = whole.vae.state_dict()
        weights = {name: own[key].detach().cpu().contiguous() for name, key in _names(own, half).items()}
        files.append(folder / FILE.format(half=half))
        partial = files[-1].with_suffix(".partial")
        partial.write_bytes(serialize(weights, metadata={"format": "pt"}))
        os.replace(partial, files[-1])
    return files


def open_taesd(weights: Mapping[str, Tensor], path: Path) -> tuple[AutoencoderHalf, Spec, dict[str, Any]] | None:
    """Open the weights of a file as a half of a tiny autoencoder.

    Args:
        weights: by name.
        path: of the file. Where the other half lies beside it, the task takes that.

    Returns:
        the half in evaluation mode, name and arguments that build it, and the task that it was made for; None for
        weights in another layout, such as those of TAEF2 with pooling in its blocks.

    Raises:
        UserError: for weights that are no finite floats.
    """
    half = "encoder" if "0.weight" in weights else "decoder"
    config = _config(weights, half)
    if config is None:
        return None
    with quiet():
        whole = AutoencoderTiny(construct("AutoencoderTiny", config))
    own = whole.vae.state_dict()
    keys = _names(own, half)
    if {name: own[key].shape for name, key in keys.items()} != {name: each.shape for name, each in weights.items()}:
        return None
    check_numbers(weights, {name: own[key] for name, key in keys.items()}, str(path))
    whole.vae.load_state_dict({**own, **{key: weights[name] for name, key in keys.items()}})
    check_finite(whole, str(path))
    (other,) = set(HALVES) - {half}
    task: dict[str, Any] = {"name": task_having(half=half), "channels": whole.channels}
    beside = path.with_name(path.name.replace(half, other))
    if beside != path and beside.is_file():
        task[other] = str(beside)
    use = Spec(name="autoencoder_tiny", args={"half": half, "config": config})
    return AutoencoderHalf(whole, half).eval(), use, task


def _names(own: Mapping[str, Tensor], half: str) -> dict[str, str]:
    """What diffusers calls the weights of a half, by what TAESD calls them."""
    names = {}
    for key in own:
        if key.startswith(f"{half}.layers."):
            number, _, rest = key.removeprefix(f"{half}.layers.").partition(".")
            names[f"{int(number) + FIRST[half]}.{rest}"] = key
    return names


def _config(weights: Mapping[str, Tensor], half: str) -> dict[str, Any] | None:
    """The configuration that weights may be of: convolutions part the blocks of one size from those of the next."""
    found = [LAYER.fullmatch(name) for name in weights]
    numbers = {(int(match[1]), bool(match[2])) for match in found if match}
    convs = sorted(number for number, in_block in numbers if not in_block)
    blocks = {number for number, in_block in numbers if in_block}
    ends = [weights.get(f"{number}.weight") for number in (*convs[:1], *convs[1:][-1:])]
    if not all(found) or not blocks or len(ends) < 2 or any(each is None or each.dim() != 4 for each in ends):
        return None
    (width, reads, *_), (gives, *_) = (each.shape for each in ends if each is not None)
    channels, latents = (reads, gives) if half == "encoder" else (gives, reads)
    if channels not in (1, 3):
        return None
    counts = [len(blocks & {*range(*pair)}) for pair in pairwise(convs)]
    config: dict[str, Any] = {"in_channels": channels, "out_channels": channels, "latent_channels": latents}
    for each in HALVES:
        config |= {f"{each}_block_out_channels": [width] * len(counts),
                   f"num_{each}_blocks": counts if each == half else counts[::-1]}  # fmt: skip
    return config


__all__ = ["open_taesd", "write_taesd"]
