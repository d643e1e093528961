"""The distillation ratio: which share of the loss the methods get, as pure functions of progress and gradient norms.

``loss = (1 - alpha) * (task + sum(v_j * scale_j * objective_j)) + alpha * sum(w_i * scale_i * method_i)``, with
``alpha`` and the scales from here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from kdgen.registry import register
from kdgen.types.arguments import Count, Share

TASK = "task"
"""The key of the task's own term among norms and terms; all others are keys of objectives and methods."""

LARGEST_SCALE = 1e4
"""Scales lie between this and its inverse (the upper bound of VQGAN's adaptive weight)."""


@dataclass(frozen=True)
class Weights:
    """How the terms of the loss are weighted in a step.

    Attributes:
        alpha: the methods' share, in [0, 1].
        scales: multiplies the weight of each objective and method, by its key; one that is missing counts as 1.
    """

    alpha: float
    scales: Mapping[str, float] = field(default_factory=dict)


class Ratio:
    """A rule for the ratio: called with the progress within the stage and the norms known so far.

    Attributes:
        adaptive: whether it needs the norms of the terms' gradients measured.
        every: steps between measurements, where it does.
        ema: decay of the average of the norms, see ``Statistics``, where it does.
    """

    adaptive: ClassVar[bool] = False
    every: int = 1
    ema: float = 0.0

    def __call__(self, progress: float, norms: Mapping[str, float]) -> Weights:
        """The weights at ``progress`` in [0, 1], given the norms by key of the term."""
        raise NotImplementedError

    def bounds(self) -> tuple[float, float]:
        """The least and the largest alpha over a stage, found by trying; a ratio whose alpha follows norms says."""
        alphas = [self(at / 100, {}).alpha for at in range(101)]
        return min(alphas), max(alphas)


@register("ratio")
@dataclass(frozen=True)
class Fixed(Ratio):
    """The same alpha throughout.

    Args:
        alpha: in [0, 1].

    Raises:
        UserError: for an alpha outside [0, 1].
    """

    alpha: Share = 0.5

    def __call__(self, progress: float, norms: Mapping[str, float]) -> Weights:
        """Alpha as given, all scales 1."""
        return Weights(float(self.alpha))


@register("ratio")
@dataclass(frozen=True)
class Linear(Ratio):
    """Alpha moves in a straight line from ``start`` to ``end`` over the stage.

    Args:
        start: alpha at progress 0, in [0, 1].
        end: alpha at progress 1, in [0, 1].

    Raises:
        UserError: for an alpha outside [0, 1].
    """

    start: Share = 1.0
    end: Share = 0.0

    def __call__(self, progress: float, norms: Mapping[str, float]) -> Weights:
        """``start + (end - start) * progress``, all scales 1."""
        return Weights(_between(self.start, self.end, _clamped(progress)))


@register("ratio")
@dataclass(frozen=True)
class Cosine(Ratio):
    """Alpha moves from ``start`` to ``end`` over the stage along half a cosine, slowly at both ends.

    Args:
        start: alpha at progress 0, in [0, 1].
        end: alpha at progress 1, in [0, 1].

    Raises:
        UserError: for an alpha outside [0, 1].
    """

    start: Share = 1.0
    end: Share = 0.0

    def __call__(self, progress: float, norms: Mapping[str, float]) -> Weights:
        """``end + (start - end) * (1 + cos(pi * progress)) / 2``, all scales 1."""
        return Weights(_between(self.start, self.end, (1 - math.cos(math.pi * _clamped(progress))) / 2))


@register("ratio")
@dataclass(frozen=True)
class Adaptive(Ratio):
    """Each objective and method is scaled so that its gradient is as large as the task's.

    VQGAN's adaptive weight, Esser et al. 2021 (arXiv 2012.09841), eq. 7, for each term: norms of the gradient at the
    weights of the student's last layer, and of the last before each layer whose features some term reads, averaged
    over steps in the spirit of GradNorm (Chen et al. 2018, arXiv 1711.02257). Where there is no task term, the first
    of the objectives, then of the methods, takes its place.

    A measurement goes back, once for each term, from the loss to these weights: through the last layer alone for a
    distance of outputs, through a critic or a teacher where a term asks one, through much of the student for features.

    Args:
        alpha: in [0, 1].
        every: steps between measurements of the norms, at least 1.
        ema: decay of the average of the norms, in [0, 1).

    Raises:
        UserError: for numbers out of range.
    """

    adaptive: ClassVar[bool] = True
    alpha: Share = 0.5
    every: Count = 10
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def __call__(self, progress: float, norms: Mapping[str, float]) -> Weights:
        """``scale_i = norm of the task's gradient / norm of term i's``; 1 for what has no gradient yet."""
        others = {key: norm for key, norm in norms.items() if key != TASK}
        reference = norms.get(TASK) or next((norm for norm in others.values() if norm > 0), 0.0)
        scales = {
            key: min(max(reference / norm, 1 / LARGEST_SCALE), LARGEST_SCALE) if norm > 0 and reference > 0 else 1.0
            for key, norm in others.items()
        }
        return Weights(float(self.alpha), scales)


class Statistics:
    """Exponential moving averages of gradient norms by term key; the first measurement of each starts its average.

    Args:
        decay: what each measurement leaves of the average before it, in [0, 1).
    """

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self._norms: dict[str, float] = {}
        self._measured: dict[str, int] = {}

    @property
    def norms(self) -> Mapping[str, float]:
        """The averages by term key, in the order in which the terms first appeared."""
        return dict(self._norms)

    def due(self, keys: Iterable[str], step: int, every: int) -> bool:
        """Whether one of these terms was measured ``every`` steps ago, or never: terms may rest in between."""
        return any(key not in self._measured or step - self._measured[key] >= every for key in keys)

    def update(self, norms: Mapping[str, float], step: int) -> None:
        """Take in a measurement of a step; figures that are not finite are passed over."""
        for key, norm in norms.items():
            self._measured[key] = step
            if math.isfinite(norm):
                before = self._norms.get(key, norm)
                self._norms[key] = self.decay * before + (1 - self.decay) * norm

    def settle(self, norms: Mapping[str, float]) -> None:
        """Put other averages in the place of these."""
        self._norms = dict(norms)

    def state_dict(self) -> dict[str, dict[str, float]]:
        """The averages, and the steps of the last measurements, for checkpoints."""
        return {"norms": dict(self._norms), "measured": dict(self._measured)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Go on from what ``state_dict`` gave."""
        self._norms = {key: float(norm) for key, norm in state["norms"].items()}
        self._measured = {key: int(step) for key, step in state["measured"].items()}


def gradient_norms(terms: Mapping[str, Tensor], compared: Sequence[Tensor]) -> dict[str, float]:
    """How strongly each term of the loss pulls at the student.

    Args:
        terms: losses by key, whose means count; the graph stays for the backward pass that follows.
        compared: weights of the student, which terms that call it again reach too.

    Returns:
        by key, the Euclidean norm of the gradient of the term's mean at all of these; 0 where it reaches none.
    """
    reached = [tensor for tensor in compared if tensor.requires_grad]
    norms = {}
    for key, term in terms.items():
        if not reached or not term.requires_grad:
            norms[key] = 0.0
            continue
        gradients = torch.autograd.grad(term.mean(), reached, retain_graph=True, allow_unused=True)
        squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
        norms[key] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return norms


def _clamped(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
