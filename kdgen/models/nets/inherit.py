"""A student that starts from the layers and channels of its teacher that matter most.

Channels are ranked by the L1 norm of their filters (Li et al. 2017, "Pruning Filters for Efficient ConvNets",
section 3.1); layers are kept at even distances, the first and last always.
"""

import torch
from torch import Tensor, nn

from kdgen.models.abilities import Inheriting, Predicting, Wrapper
from kdgen.models.nets.chain import ConvChain
from kdgen.models.nets.fold import folded
from kdgen.models.nets.unet import Block, UNet
from kdgen.types import UserError, text


@torch.no_grad()
def inherit(student: nn.Module, teacher: nn.Module) -> None:
    """Write weights of a teacher into a student, which is changed in place.

    Fits: an ``Inheriting`` net, as that says; the same architecture in the same size, which is copied exactly; a chain
    of convolutions (dncnn, ffdnet) from one at least as deep and wide; a unet from one at least as wide, with as many
    blocks or more; and any net, from one that has half of its weights by the same names and shapes, which are copied:
    the trunk of what was trained for another task.
    A teacher that reads other units, say [0, 1], is converted.

    Args:
        student: the net that starts.
        teacher: where from; a ``Wrapper`` is looked through.

    Raises:
        UserError: for a pair that does not fit.
    """
    inner, scale, shift, predicts = _unwrap(teacher)
    same_units, agree = (scale, shift) == (1.0, 0.0), predicts == _says(student)
    if same_units and isinstance(student, Inheriting) and callable(student.inherit):
        student.inherit(inner)
    elif same_units and agree and type(student) is type(inner) and _shapes(student) == _shapes(inner):
        student.load_state_dict(inner.state_dict())
    elif same_units and isinstance(student, UNet) and isinstance(inner, UNet):
        _inherit_unet(student, inner)
    elif agree and _chain(student) and _chain(plain := folded(inner)):
        _inherit_chain(student, plain, scale, shift)
    elif same_units and (trunk := _trunk(student, inner)):
        student.load_state_dict(trunk, strict=False)
    else:
        raise UserError(text("cannot_inherit", "a {student} cannot start from this {teacher}: what fits is a chain "
                             "of convolutions without norm from a larger one that predicts the same, say a dncnn "
                             "from a dncnn, a unet from a larger unet of range [-1, 1], and any net from one that has "
                             "half of its weights by the same names and shapes",
                             student=type(student).__name__, teacher=type(inner).__name__))  # fmt: skip


def start_from(student: nn.Module, teacher: nn.Module, names: tuple[str, str], *, copied: bool) -> None:
    """Give a student its first weights, in place.

    Args:
        student: the net that starts.
        teacher: where from.
        names: what both are called.
        copied: whether weights are taken as they are, as ``copy_weights`` says; else as ``inherit`` does.

    Raises:
        UserError: for a start that does not fit.
    """
    try:
        (copy_weights if copied else inherit)(student, teacher)
    except UserError as error:
        raise UserError(text("cannot_start", "{name} cannot start from {start}: {reason}", name=names[0],
                             start=names[1], reason=error.text)) from None  # fmt: skip


@torch.no_grad()
def copy_weights(student: nn.Module, teacher: nn.Module) -> None:
    """Give a student all weights of a teacher as they are, also where they mean something else in it.

    So they do in a diffusion student that counts time by another table: timestep 500 is another noise level, and what
    it says differs from what its teacher says.

    Args:
        student: the net that starts.
        teacher: where from, of the same class, size, units and prediction; a ``Wrapper`` is looked through.

    Raises:
        UserError: for a pair that does not fit.
    """
    inner, *means = _unwrap(teacher)
    alike = type(student) is type(inner) and means == [1.0, 0.0, _says(student)]
    if not alike or _shapes(student) != _shapes(inner):
        raise UserError(text("no_copy", "a copy is of the same net in the same size, and this {type} is not: set "
                             'init to "teacher" for what fits of it', type=type(inner).__name__))  # fmt: skip
    student.load_state_dict(inner.state_dict())


def _unwrap(teacher: nn.Module) -> tuple[nn.Module, float, float, str]:
    scale, shift, residual = 1.0, 0.0, False
    while isinstance(teacher, Wrapper):
        teacher, outer, offset, subtracts = teacher.unwrapped()
        scale, shift = scale * outer, shift * outer + offset
        residual |= subtracts
    return teacher, scale, shift, "residual" if residual else _says(teacher)


def _trunk(student: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """The weights of another net that are called and shaped as a student's; none if these are less than half of it.

    None either where they are all of it: then the net is the same and says something else, a residual say; and none of
    a plain sequence, whose parts are called by their place alone.
    """
    if isinstance(student, nn.Sequential):
        return {}
    own = student.state_dict()
    fit = {key: value for key, value in other.state_dict().items() if key in own and value.shape == own[key].shape}
    taken, whole = (sum(value.numel() for value in each.values()) for each in (fit, own))
    return fit if whole <= 2 * taken < 2 * whole else {}


def _says(net: nn.Module) -> str:
    return str(net.predicts) if isinstance(net, Predicting) else "image"


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in net.state_dict().items()}


def _chain(net: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a plain chain; none if the net is something else."""
    plain = isinstance(net, nn.Sequential) and all(isinstance(m, nn.Conv2d | nn.ReLU | nn.Identity) for m in net)
    return [layer for layer in net.children() if isinstance(layer, nn.Conv2d)] if plain else []


def _strongest(weight: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` filters ``(outputs, inputs, H, W)`` of largest L1 norm, in order."""
    return weight.abs().sum((1, 2, 3)).topk(count).indices.sort().values


def evenly(count: int, of: int) -> list[int]:
    """``count`` of the numbers below ``of`` at even distances, the first and last among them."""
    return [round(i * (of - 1) / max(count - 1, 1)) for i in range(count)]


def _inherit_chain(student: nn.Module, teacher: nn.Module, scale: float, shift: float) -> None:
    """The teacher works on ``scale * x + shift``; its first and last convolution are changed to read and say ``x``."""
    small, big = _chain(student), _chain(teacher)
    kept = [big[i] for i in evenly(len(small), len(big))]
    if len(small) > len(big) or any(s.out_channels > b.out_channels for s, b in zip(small, kept, strict=True)):
        raise UserError(text("chain_not_within", "a student of depth {depth} and width {width} is not within its "
                             "teacher of depth {teacher_depth} and width {teacher_width}: make it no larger",
                             depth=len(small), width=small[0].out_channels, teacher_depth=len(big),
                             teacher_width=big[0].out_channels))  # fmt: skip
    ends = [(chain[0].in_channels, chain[-1].out_channels, chain[0].kernel_size) for chain in (small, big)]
    if ends[0] != ends[1]:
        raise UserError(text("chain_ends", "the student's first layer reads {student} channels and its teacher's "
                             "{teacher}: both must have the same image channels, pixel-unshuffling and noise-level "
                             "map", student=ends[0][0], teacher=ends[1][0]))  # fmt: skip
    inputs = torch.arange(small[0].in_channels)
    for layer, source in zip(small, kept, strict=True):
        weight = source.weight
        bias = weight.new_zeros(len(weight)) if source.bias is None else source.bias
        if source is big[0]:
            num_maps = teacher.num_maps if isinstance(teacher, ConvChain) else 0
            bias = bias + shift * weight[:, num_maps:].sum((1, 2, 3))
            weight = weight * scale
        if source is big[-1]:
            offset = shift if _says(student) == "image" else 0.0
            weight, bias = weight / scale, (bias - offset) / scale
        if layer.bias is None and bias.any():
            raise UserError(text("chain_biases", "the teacher has biases, or a range other than [-1, 1]: give the "
                                 "student bias=true"))  # fmt: skip
        outputs = _strongest(weight, layer.out_channels)
        layer.weight.copy_(weight[outputs][:, inputs])
        if layer.bias is not None:
            layer.bias.copy_(bias[outputs])
        inputs = outputs


def _inherit_unet(student: UNet, teacher: UNet) -> None:
    """All layers that add to one level share its selection of channels; blocks choose their hidden channels freely.

    A grey student of a colour teacher gets what the colour teacher does to grey images.
    """
    levels = len(teacher.widths)
    if (
        len(student.widths) != levels
        or any(s > t for s, t in zip(student.widths, teacher.widths, strict=True))
        or student.blocks > teacher.blocks
        or student.conditions != teacher.conditions
        or student.channels not in (1, teacher.channels)
    ):
        raise UserError(text("unet_not_within", "this unet does not fit within its teacher: give it {levels} widths "
                             "of at most {widths}, at most {blocks} blocks, channels 1 or {channels}, and tell it "
                             "what its teacher is told ({told:, })",
                             levels=levels, widths=str(list(teacher.widths)), blocks=teacher.blocks,
                             channels=teacher.channels,
                             told=sorted(teacher.conditions) or [text("nothing", "nothing")]))  # fmt: skip
    keep = [_level_channels(teacher, i).topk(student.widths[i]).indices.sort().values for i in range(levels)]
    head, tail = teacher.head.weight, teacher.tail.weight
    if student.channels != teacher.channels:
        image, noise = head[:, : teacher.channels], head[:, teacher.channels :]
        head, tail = torch.cat([image.sum(1, keepdim=True), noise], dim=1), tail.mean(0, keepdim=True)
    student.head.weight.copy_(head[keep[0]])
    student.tail.weight.copy_(tail[:, keep[0]])
    for i in range(levels - 1):
        _copy(student.down[i], teacher.down[i], keep[i + 1], keep[i])
        _copy(student.up[i], teacher.up[i], keep[i], keep[i + 1])
    for i in range(levels):
        for small, big in zip(_level_blocks(student, i), _level_blocks(teacher, i), strict=True):
            for block, source in zip(small, (big[j] for j in evenly(len(small), len(big))), strict=True):
                hidden = _strongest(source.first.weight, block.first.out_channels)
                _copy(block.first, source.first, hidden, keep[i])
                _copy(block.second, source.second, keep[i], hidden)


def _copy(layer: nn.Module, source: nn.Module, outputs: Tensor, inputs: Tensor) -> None:
    rows, columns = (inputs, outputs) if isinstance(layer, nn.ConvTranspose2d) else (outputs, inputs)
    layer.get_parameter("weight").copy_(source.get_parameter("weight")[rows][:, columns])


def _level_blocks(net: UNet, level: int) -> list[list[Block]]:
    """The residual blocks of a level, on the way down and on the way up."""
    stretches = [net.middle] if level == len(net.encoder) else [net.encoder[level], net.decoder[level]]
    return [[block for block in stretch.children() if isinstance(block, Block)] for stretch in stretches]


def _level_channels(net: UNet, level: int) -> Tensor:
    """The L1 norm of all filters that write to each channel of a level, ``(width,)``."""
    source = net.down[level - 1] if level else net.head
    norms = source.get_parameter("weight").abs().sum((1, 2, 3))
    if level < len(net.up):
        norms = norms + net.up[level].get_parameter("weight").abs().sum((0, 2, 3))
    for stretch in _level_blocks(net, level):
        norms = norms + sum(block.second.weight.abs().sum((1, 2, 3)) for block in stretch)
    return norms
