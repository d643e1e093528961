"""Models as nets for pictures: of any channels, each in the view that it was made for."""

from collections.abc import Mapping

import torch

from kdgen.data.damages.view import view_of
from kdgen.models.input_shape import fitted
from kdgen.models.model import Model
from kdgen.models.task_arguments import task_class
from kdgen.tasks.seen import Seen
from kdgen.types import Text, text
from kdgen.utils.conditions import conditions_of


class AsPictured(torch.nn.Module):
    """A model that takes grey and colour alike, as a net for pictures."""

    def __init__(self, model: Model, sigma: float) -> None:
        super().__init__()
        self.model, self.sigma = model, sigma
        read = conditions_of(model.net) or ()
        self.conditions = frozenset({"mask", "stops"} & set(read))

    def forward(
        self, x: torch.Tensor, *, mask: torch.Tensor | None = None, stops: torch.Tensor | None = None
    ) -> torch.Tensor:
        """A picture ``(1, 1 or 3, H, W)`` as the model changes it, told which pixels and how much light are missing."""
        if not task_class(self.model.task).tiled:
            grey = x.shape[1] == 1
            out: torch.Tensor = fitted(self.model.net, x.expand(-1, self.model.channels, -1, -1))
            return out.mean(1, keepdim=True) if grey else out
        return self.model.restore(x, self.sigma, mask, None if stops is None else stops.item())


def as_pictured(model: Model, sigma: float, seed: int | None) -> torch.nn.Module:
    """A model as a net for pictures, which it sees in its own view.

    Args:
        model: changes pictures.
        sigma: the level of noise that it is told, in 8-bit units.
        seed: of what its view draws; None where pictures are damaged already, and nothing is done to them.
    """
    net, (view, through) = AsPictured(model, sigma), view_of(model.task)
    return net if through is None or seed is None else Seen(net, view, seed)


def seen_through(models: Mapping[str, Model]) -> tuple[Text, ...]:
    """Which of the models see pictures otherwise than they are."""
    return tuple(text("sees_through", "{name} sees the picture {view}.", name=name, view=view)
                 for name, model in models.items() if (view := view_of(model.task)[1]) is not None)  # fmt: skip


__all__ = ["AsPictured", "as_pictured", "seen_through"]
