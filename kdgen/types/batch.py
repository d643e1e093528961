"""What a net is asked, and what is known of the right answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, device


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of a task.

    Attributes:
        x: what the student sees: images ``(B, C, H, W)``, in [-1, 1] before noise, or latents ``(B, Z)``.
        teacher_x: what the teacher sees, where it differs: a cleaner, larger or other-modality view.
        y: the ground truth of ``x``, ``(B, C, H, W)`` in [-1, 1] or labels ``(B,)``, where there is any.
        real: images of the data ``(B, C, H, W)`` in [-1, 1] that belong to no ``x``, for losses on distributions.
        weight: how much the squared error of each example's output counts, ``(B,)``; equally where absent.
        cond: conditions for both nets by keyword, each ``(B, ...)``: ``sigma``, ``label``, ``mask``.
    """

    x: Tensor
    teacher_x: Tensor | None = None
    y: Tensor | None = None
    real: Tensor | None = None
    weight: Tensor | None = None
    cond: Mapping[str, Tensor] = field(default_factory=dict)

    def _columns(self) -> dict[str, Any]:
        """What it holds of tensors by name, but its conditions."""
        named = ("x", "teacher_x", "y", "real", "weight")
        return {name: t for name in named if (t := getattr(self, name)) is not None}

    def to(self, where: device) -> "Batch":
        """The same batch on another device."""
        moved = {name: t.to(where, non_blocking=True) for name, t in self._columns().items()}
        return replace(self, **moved, cond={k: v.to(where, non_blocking=True) for k, v in self.cond.items()})

    def split(self, parts: int) -> "list[Batch]":
        """The batch in so many successive parts, each as even as can be."""
        columns = {name: t.tensor_split(parts) for name, t in self._columns().items()}
        cond = {key: value.tensor_split(parts) for key, value in self.cond.items()}
        return [
            Batch(**{name: cut[i] for name, cut in columns.items()}, cond={k: v[i] for k, v in cond.items()})
            for i in range(parts)
        ]
