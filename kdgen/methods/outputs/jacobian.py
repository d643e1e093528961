"""Match how the outputs change with the input, by finite differences along random directions."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import ask, check_outputs, check_same_view
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.types.arguments import Count
from kdgen.utils.distance import distance, resample


@register("method")
class Jacobian(Method):
    """Mean square difference of directional derivatives: Jacobian matching by finite differences.

    Srinivas & Fleuret 2018 (arXiv 1803.00443) match Jacobians; Czarnecki et al. 2017 (Sobolev training, arXiv
    1706.04859) project them on random directions, which is what keeps the cost at a few forward passes. With
    ``v ~ N(0, I)`` and ``D f = (f(x + epsilon v) - f(x)) / epsilon`` the loss is the mean over pixels and directions
    of ``(D student - D teacher)^2``; its expectation is, to first order in epsilon, the squared Frobenius distance
    of the two Jacobians over the number of outputs.

    Both nets are asked about ``x`` and every ``x + epsilon v`` together, in one precision, for a difference of answers
    from different ones would be mostly rounding; so it gains nothing from cached answers.

    Args:
        num_directions: directions per image and step.
        epsilon: length of the step per pixel, in units of images in [-1, 1]; below about 0.01 the rounding of a
            teacher in bfloat16 drowns the difference.

    Raises:
        UserError: for numbers out of range; in ``attach`` where the outputs cannot be compared or the teacher has a
            view of its own.
    """

    reads = frozenset()

    def __init__(self, num_directions: Count = 1, epsilon: Annotated[float, Field(ge=1e-6)] = 0.05) -> None:
        super().__init__()
        self.num_directions, self.epsilon = num_directions, epsilon

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that the Jacobians can be compared. Raises UserError where they cannot."""
        check_same_view("jacobian", batch)
        check_outputs("jacobian", *outputs(student, teacher, batch))

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``mean (D student - D teacher)^2``, ``(B,)``; draws from the global generator."""
        x, n = inputs.batch.x, self.num_directions
        points = torch.cat([x, *(x + self.epsilon * torch.randn_like(x) for _ in range(n))])
        cond = {key: torch.cat([value] * (n + 1)) for key, value in inputs.batch.cond.items()}
        student = self._derivatives(ask(inputs.student_net, points, cond))
        with torch.no_grad():
            teacher = self._derivatives(ask(inputs.teacher_net, points, cond))
        error = distance("l2", student, resample(teacher, student))
        return error.view(n, -1).mean(0)

    def _derivatives(self, outputs: Tensor) -> Tensor:
        at_x, *shifted = outputs.chunk(self.num_directions + 1)
        return torch.cat([(output - at_x) / self.epsilon for output in shifted])
