"""What error an answer may have: judged by the answerer's own error where there is a truth, else by its spread."""

from dataclasses import dataclass

from torch import Tensor

from kdgen.types import Text, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The most that a mean squared error may be, as a share.

    Attributes:
        own: of the answerer's own mean squared error, where the truth of its output is known.
        spread: of the variance of its output, where it is not.
    """

    own: float
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A mean squared error as a share of what it was judged by.

    Attributes:
        share: of that; NaN or infinite where the error is.
        bound: the most it may be.
        own: whether it is a share of the answerer's own squared error; else of the variance of its output.
    """

    share: float
    bound: float
    own: bool

    @property
    def passes(self) -> bool:
        """Whether the error is below its bound."""
        return self.share < self.bound

    @property
    def account(self) -> Text:
        """How large it is and may be, in words."""
        what = text("own_error", "its own squared error") if self.own else \
            text("variance", "the variance of its output")  # fmt: skip
        share = f"{100 * self.share:.0f}" if self.share > 1 else f"{100 * self.share:.2g}"
        return text("judged", "{share} % of {what}, where {most} % is the most", share=share, what=what,
                    most=f"{100 * self.bound:g}")  # fmt: skip


def judge(
    answer: Tensor, exact: Tensor, bound: Bound, *, truth: Tensor | None = None, weight: Tensor | None = None
) -> Judged:
    """Judge an answer by how far it is from the exact one.

    Args:
        answer: ``(B, ...)`` in any units.
        exact: what it should be, likewise.
        bound: the most it may be off.
        truth: what the exact answer is an estimate of, if known; passed over where its shape or its kind is another,
            or readings of it are missing.
        weight: how much each example counts, ``(B,)``, as in ``Batch``.
    """
    comparable = truth is not None and truth.shape == exact.shape and truth.is_floating_point()
    comparable = comparable and truth is not None and not truth.isnan().any().item()
    centre = truth if comparable else exact.mean([dim for dim in range(exact.ndim) if dim != 1], keepdim=True)
    assert centre is not None
    error, scale = (_mean_square(exact - other, weight) for other in (answer, centre))
    return Judged(share=error / max(scale, 1e-30), bound=bound.own if comparable else bound.spread, own=comparable)


def _mean_square(difference: Tensor, weight: Tensor | None) -> float:
    each = difference.float().square().flatten(1).mean(1)
    return (each if weight is None else each * weight).mean().item()


__all__ = ["Bound", "Judged", "judge"]
