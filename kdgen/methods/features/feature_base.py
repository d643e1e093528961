"""What the methods share that compare features of paired layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdgen.methods.layer_matching import Pair, settle
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.utils.distance import resample


class Paired(Method):
    """A mean over pairs of layers, through regressors where widths differ.

    A regressor is a 1x1 convolution, or a linear map for ``(B, C)``; the method owns it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[Pair] = []
        self.regressors = nn.ModuleList()

    def chosen(self, student: Net, teacher: Net, batch: Batch) -> list[Pair]:
        """Which layers are compared. Raises UserError where there are none to compare."""
        raise NotImplementedError

    def error(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The error of one pair's features ``(B, C, ...)`` of the same shape, float32: ``(B,)``."""
        raise NotImplementedError

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the pairs and make a regressor for each whose widths differ. Raises UserError as ``chosen`` does."""
        self.pairs = self.chosen(student, teacher, batch)
        settle(self, self.pairs)
        self.regressors = nn.ModuleList(_regressor(pair) for pair in self.pairs).to(batch.x.device)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """The mean over pairs of their errors, ``(B,)``."""
        losses = []
        for pair, regressor in zip(self.pairs, self.regressors, strict=True):
            student = regressor(inputs.student_features[pair.student.path].float()).float()
            losses.append(self.error(student, resample(inputs.teacher_features[pair.teacher.path], student)))
        return torch.stack(losses).mean(0)


def _regressor(pair: Pair) -> nn.Module:
    from_width, to_width = pair.student.shape[1], pair.teacher.shape[1]
    if from_width == to_width:
        return nn.Identity()
    kinds: dict[int, Callable[..., nn.Module]] = {4: nn.Conv2d, 5: nn.Conv3d}
    kind = kinds.get(len(pair.student.shape))
    return nn.Linear(from_width, to_width) if kind is None else kind(from_width, to_width, 1)
