"""Guidance of conditional nets: how a teacher is guided, said once in a recipe, and the guided net."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from torch import Tensor, nn

from kdgen.diffusion.prediction import append_dims
from kdgen.types import Net, UserError, text
from kdgen.utils.conditions import call, check_reads, conditions_of
from kdgen.utils.hooks import hookable_layers
from kdgen.utils.schema import Strict, explain_error

Scale = Annotated[float, Field(ge=0)]


class GuidanceSpec(Strict):
    """How a teacher is guided, Ho & Salimans 2022 (arXiv 2207.12598)."""

    scale: Scale | tuple[Scale, Scale] = Field(
        description="how far from what it says of nothing towards what it says of the condition and past it, 1 is not "
        "at all; or the least and the largest, between which it is drawn: the student is told it as `guidance` "
        "(Meng et al. 2023, arXiv 2210.03142)"
    )
    null: int | str | None = Field(
        None, description="what stands for nothing: a label, or a negative prompt; none: what its pipeline has for it"
    )
    rescale: float = Field(
        0.0, ge=0, le=1, description="share of the guided answer that keeps the deviation of the unguided one"
    )
    interval: tuple[Scale, Scale] | None = Field(
        None, description="noise levels, the least and the largest, at which it is guided (arXiv 2404.07724); none: all"
    )
    distilled: bool = Field(
        True,
        description="whether the student learns to answer at once as the guided teacher does; else it learns what the "
        "teacher says without, and both are guided where they draw",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name, bounds in (("scale", self.scale), ("interval", self.interval)):
            if isinstance(bounds, tuple) and not bounds[0] < bounds[1]:
                raise ValueError(text("guidance_bounds", "guidance.{name} is a number and behind it a larger one, not "
                                      "{given}", name=name, given=str(list(bounds))))  # fmt: skip
        if isinstance(self.scale, tuple) and not self.distilled:
            raise ValueError(text("guidance_range", "a range of guidance.scale is for a student that is told it: leave "
                                  "distilled true, or give one number"))  # fmt: skip
        return self

    @property
    def ranges(self) -> bool:
        """Whether the scale is an input of the student."""
        return isinstance(self.scale, tuple)

    @property
    def usual(self) -> float:
        """The scale at which nets are drawn and measured: of a range its middle."""
        return sum(self.scale) / 2 if isinstance(self.scale, tuple) else self.scale


def guidance_of(value: Any) -> GuidanceSpec | None:
    """How a teacher is guided by what a recipe says: a mapping, the scale alone, or nothing. Raises UserError."""
    if value is None or isinstance(value, GuidanceSpec):
        return value
    told = dict(value) if isinstance(value, Mapping) else {"scale": value}
    try:
        return GuidanceSpec.model_validate(told)
    except ValidationError as error:
        raise UserError(text("no_guidance", "guidance: {error}", error=explain_error(error, GuidanceSpec))) from None


HowGuided = Annotated[
    GuidanceSpec | None, BeforeValidator(guidance_of, json_schema_input_type=float | dict[str, Any] | None)
]
"""An argument that says how a teacher is guided: None, a scale, or a mapping of ``GuidanceSpec``'s fields."""


class Guidance(nn.Module):
    """Classifier-free guidance of a conditional net, Ho & Salimans 2022 (arXiv 2207.12598), eq. 6.

    ``D = D(x; null) + scale * (D(x; cond) - D(x; null))``, where the paper's ``w`` is ``scale - 1``: scale 1 is the
    net as it is. Any other asks it twice, last under the condition, so that hooks read what it makes of that; they find
    its layers by the paths that these have in the net.

    Args:
        net: called as ``net(x, sigma=(B,), **cond)``.
        scale: how far to go from the unconditional answer towards and past the conditional one; None is told with each
            call, as ``guidance`` ``(B,)``.
        null: what tells the net of nothing, by name, each without a batch: the label of no class, the empty prompt.
        rescale: share ``phi`` of ``D * std(D(x; cond)) / std(D)`` in the answer, Lin et al. 2024 (arXiv 2305.08891),
            eq. 15 and 16, here of denoised images.
        interval: noise levels from which to which it is guided, Kynkäänniemi et al. 2024 (arXiv 2404.07724), eq. 4.

    Raises:
        UserError: for a net that does not read these.
    """

    def __init__(
        self,
        net: Net,
        scale: float | None,
        null: Mapping[str, Tensor],
        rescale: float = 0.0,
        interval: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.scale, self.null, self.rescale, self.interval = net, scale, dict(null), rescale, interval
        check_reads("guidance", net, set(null))
        read = conditions_of(net)
        told = {"sigma", *null} if scale is not None else {"sigma", "guidance", *null}
        self.conditions = None if read is None else read | told

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The guided denoised image, ``(B, C, H, W)``, of ``x`` ``(B, C, H, W)`` and ``cond``, each ``(B, ...)``."""
        scale = self.scale if self.scale is not None else append_dims(cond.pop("guidance"), x)
        if isinstance(scale, float | int) and scale == 1:
            return call(self.net, x, cond)
        nothing = {name: self.null[name].to(told).expand_as(told) for name, told in cond.items() if name in self.null}
        unconditional = call(self.net, x, {**cond, **nothing})
        conditional = call(self.net, x, cond)
        guided = torch.lerp(unconditional, conditional, scale)
        if self.rescale:
            deviation, own = (each.flatten(1).std(1) for each in (conditional, guided))
            guided = torch.lerp(guided, guided * append_dims(deviation / own.clamp_min(1e-12), x), self.rescale)
        if self.interval is None:
            return guided
        low, high = self.interval
        within = (cond["sigma"] >= low) & (cond["sigma"] <= high)
        return torch.where(within.view(-1, 1, 1, 1), guided, conditional)

    def __getattr__(self, name: str) -> Any:
        """A part of the net by the name that it has there."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            net = super().__getattr__("net")
            parts = dict(net.named_children()) if isinstance(net, nn.Module) else {}
            if name not in parts:
                raise
            return parts[name]

    def feature_layers(self) -> list[str]:
        """Those of the net."""
        return hookable_layers(self.net)

    def extra_repr(self) -> str:
        """What its weights do not say: what it is told of nothing by a digest."""
        told = hashlib.sha256(repr([(name, value.tolist()) for name, value in sorted(self.null.items())]).encode())
        return (f"scale={self.scale}, rescale={self.rescale}, interval={self.interval}, "
                f"null={told.hexdigest()[:16]}")  # fmt: skip


def guided(net: Net, how: GuidanceSpec | None, null: Mapping[str, Tensor]) -> Net:
    """A net under guidance, where there is any."""
    if how is None or how.scale == 1:
        return net
    return Guidance(net, None if how.ranges else how.usual, null, how.rescale, how.interval)


def unguided(net: Net) -> Net:
    """A net as it is without guidance."""
    return net.net if isinstance(net, Guidance) else net


def null_label(how: GuidanceSpec | None) -> Mapping[str, Tensor]:
    """What tells a net of no class; nothing without guidance. Raises UserError for guidance that names no label."""
    if how is None or how.scale == 1:
        return {}
    if not isinstance(how.null, int):
        raise UserError(text("guidance_null_label", "guidance needs the label that tells the teacher of no class: "
                             'set it to {{"scale": 2, "null": 10}}, say'))  # fmt: skip
    return {"label": torch.tensor(how.null)}
