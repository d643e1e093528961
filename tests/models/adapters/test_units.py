"""Smaller nets of latents that start from larger ones: alike where all that was left out was dead."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from latent_parts import XL
from latent_pipelines import adapted
from torch import Tensor

import kdgen.tasks  # noqa: F401 - registers its names
from kdgen.models.adapters.blocks import evenly_kept
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.types import UserError

HEADS = re.compile(r".*(to_[qkv]|add_[qkv]_proj)\.(weight|bias)")
HIDDEN = re.compile(r".*(net\.0\.proj|proj_mlp|conv_inverted|conv_depth|linear_1)\.(weight|bias)")
READ_HEADS = re.compile(r".*(to_out\.0|to_add_out)\.weight")
READ_HIDDEN = re.compile(r".*(net\.2|conv_point|linear_2|conv2)\.weight")
CHANNELS_LAST = re.compile(r".*(scale_shift_table|embedding_table\.weight|pos_embed\.pos_embed)")


def said(net: LatentModel) -> Tensor:
    """What a net says of two noisy latents."""
    random = torch.Generator().manual_seed(7)
    shapes = {
        **net.shapes(),
        **{name: (5, *net.shapes()[name][1:]) for name in ("words", "words_mask") if name in net.shapes()},
    }
    told = {name: torch.rand(2, *shape, generator=random) for name, shape in shapes.items()}
    told |= {
        name: value
        for name, value in {"label": torch.tensor([1, 7]), "words_mask": torch.ones(2, 5)}.items()
        if name in shapes
    }
    x = torch.randn(2, net.latent_channels, net.size, net.size, generator=random)
    with torch.inference_mode():
        return net(x, sigma=torch.tensor([0.5, 2.0]), **told)


def twice(value: Tensor, dim: int, others: str, size: int = 1, *, first: bool = False) -> Tensor:
    """Twice as many units of a size along a dimension, each before or behind another: its twin, noise, or nothing."""
    units = value.unflatten(dim, (-1, size))
    other = {"twins": units, "noise": torch.randn_like(units), "nothing": torch.zeros_like(units)}[others]
    return torch.stack((units, other) if first else (other, units), dim + 1).flatten(dim, dim + 2)


def widened(small: Mapping[str, Tensor], large: Mapping[str, Tensor], head: int | None) -> dict[str, Tensor]:
    """Weights of a net twice as wide that says the same.

    Every channel has a twin behind it, which norms see and nothing reads; before every hidden unit there is another that
    nothing reads; so it is with heads of ``head`` channels, or else with each channel of a head.
    """
    made = {}
    for key, value in small.items():
        rows, columns = (size == 2 * own for size, own in zip(large[key].shape[:2], value.shape[:2], strict=False)
                         ) if value.dim() > 1 else (len(large[key]) == 2 * len(value), False)  # fmt: skip
        if CHANNELS_LAST.fullmatch(key):
            made[key] = twice(value, value.dim() - 1, "twins")
            continue
        if rows and HEADS.fullmatch(key):
            query = head is None and re.search("to_q|add_q", key) is not None
            value = twice(value * 2**0.5 if query else value, 0, "nothing" if query else "noise", head or 1)
        elif rows:
            value = twice(value, 0, "noise" if HIDDEN.fullmatch(key) else "twins", first=True)
            value = value.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) if HIDDEN.fullmatch(key) else value
        if columns and re.fullmatch(r"single.*proj_out\.weight", key):
            inner = large[key].shape[0] // 2
            parts = twice(value[:, :inner], 1, "nothing", head or 1), twice(value[:, inner:], 1, "nothing")
            value = torch.cat(parts, 1)
        elif columns and READ_HEADS.fullmatch(key):
            value = twice(value, 1, "nothing", head or 1)
        elif columns:
            value = twice(value, 1, "nothing", first=READ_HIDDEN.fullmatch(key) is None)
        made[key] = value
    return made


WIDE: dict[str, tuple[int | None, dict[str, Any]]] = {
    "StableDiffusionPipeline": (None, {"block_out_channels": (16, 32)}),
    XL: (4, {"block_out_channels": (16, 32), "attention_head_dim": (4, 8)}),
    "DiTPipeline": (4, {"num_attention_heads": 4}),
    "PixArtAlphaPipeline": (4, {"num_attention_heads": 4, "cross_attention_dim": 16}),
    "StableDiffusion3Pipeline": (4, {"num_attention_heads": 4, "caption_projection_dim": 16}),
    "FluxPipeline": (16, {"num_attention_heads": 4}),
    "SanaPipeline": (4, {"num_attention_heads": 4, "num_cross_attention_heads": 4, "cross_attention_dim": 16}),
}  # fmt: skip
NARROW: dict[str, dict[str, Any]] = {XL: {"attention_head_dim": (2, 4)}}


@pytest.mark.parametrize("pipeline", WIDE)
def test_a_narrower_student_of_a_teacher_whose_other_units_are_dead_says_what_it_does(pipeline: str) -> None:
    head, wide = WIDE[pipeline]
    small, fresh = (adapted(pipeline, seed, **NARROW.get(pipeline, {})) for seed in (0, 1))
    teacher = adapted(pipeline, 2, **wide)
    teacher.model.load_state_dict(widened(small.model.state_dict(), teacher.model.state_dict(), head))
    for name, table in teacher.model.named_buffers():
        own = small.model.get_buffer(name)
        torch.testing.assert_close(table[..., ::2], own)  # its places are those of every second channel
        table.copy_(own.repeat_interleave(2, -1))
    torch.testing.assert_close(said(teacher), said(small), atol=1e-4, rtol=1e-4)
    fresh.inherit(teacher)
    torch.testing.assert_close(said(fresh), said(small), atol=1e-5, rtol=1e-5)


def silence(part: torch.nn.Module) -> None:
    """Have a part of a net add nothing to what it is given."""
    for name, parameter in part.named_parameters():
        if re.fullmatch(r"(.*\.)?(to_out\.0|to_add_out|net\.2|conv_point|proj_out|conv2)\.(weight|bias)", name):
            torch.nn.init.zeros_(parameter)
        if name == "conv_shortcut.weight":  # of what comes from below, and nothing of the skip connection
            torch.nn.init.dirac_(parameter)
        if name == "conv_shortcut.bias":
            torch.nn.init.zeros_(parameter)


STACK = "transformer_blocks"
DEEP: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "StableDiffusionPipeline": (
        {"layers_per_block": 2, "transformer_layers_per_block": 3},
        {"layers_per_block": 1, "transformer_layers_per_block": 2, "mid_block_type": None},
        ["mid_block", *(f"{way}_blocks.{level}.resnets.1" for way in ("down", "up") for level in (0, 1)),
         *(f"{block}.attentions.1" for block in ("down_blocks.0", "up_blocks.1")),
         *(f"{block}.attentions.{i}.{STACK}.1" for block, i in
           (("down_blocks.0", 0), ("up_blocks.1", 0), ("up_blocks.1", 2)))],
    ),
    "DiTPipeline": ({"num_layers": 4}, {"num_layers": 2}, [f"{STACK}.1", f"{STACK}.2"]),
    "PixArtAlphaPipeline": ({"num_layers": 4}, {"num_layers": 3}, [f"{STACK}.1"]),
    "StableDiffusion3Pipeline": (
        {"num_layers": 5, "dual_attention_layers": (1, 2)}, {"num_layers": 3, "dual_attention_layers": (1,)},
        [f"{STACK}.1", f"{STACK}.3"],
    ),
    "FluxPipeline": (
        {"num_layers": 3, "num_single_layers": 4}, {"num_layers": 2, "num_single_layers": 1},
        [f"{STACK}.1", *(f"single_{STACK}.{i}" for i in range(3))],
    ),
    "SanaPipeline": ({"num_layers": 3}, {"num_layers": 1}, [f"{STACK}.0", f"{STACK}.1"]),
}  # fmt: skip


@pytest.mark.parametrize("pipeline", DEEP)
def test_a_shallower_student_of_a_teacher_whose_other_layers_add_nothing_says_what_it_does(pipeline: str) -> None:
    deep, shallow, left_out = DEEP[pipeline]
    teacher, student = adapted(pipeline, **deep), adapted(pipeline, 1, **shallow)
    before = said(teacher)
    for path in left_out:
        silence(teacher.model.get_submodule(path))
    assert not torch.allclose(said(teacher), before, atol=1e-2)
    student.inherit(teacher)
    torch.testing.assert_close(said(student), said(teacher), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pipeline", WIDE)
def test_a_student_as_large_as_its_teacher_starts_as_its_copy(pipeline: str) -> None:
    teacher, student = adapted(pipeline), adapted(pipeline, 1)
    student.inherit(teacher)
    assert torch.equal(said(student), said(teacher))
    assert student.origins(teacher) == {layer: layer for layer in student.feature_layers()}


def test_layers_stay_at_even_distances_the_first_and_the_last_among_them() -> None:
    assert [evenly_kept(count, 6) for count in (6, 4, 3, 2, 1)] == [
        [0, 1, 2, 3, 4, 5], [0, 2, 3, 5], [0, 2, 5], [0, 5], [5]]  # fmt: skip
    assert evenly_kept(3, 2) == [0, 1, 2]


def test_a_student_wider_than_its_teacher_is_refused() -> None:
    with pytest.raises(UserError, match="no wider than the teacher"):
        adapted("DiTPipeline", num_attention_heads=4).inherit(adapted("DiTPipeline"))
