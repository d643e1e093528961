"""Answers that hold values that are not finite: counted while a net is measured, so that no mean hides them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdgen.types import Net


@dataclass(slots=True)
class Answers:
    """What a net gave while it was watched.

    Attributes:
        count: answers, one for each example of a batch at each call.
        not_finite: those of them that hold a value that is not finite.
    """

    count: int = 0
    not_finite: int = 0


@contextmanager
def watched(net: Net, progress: Callable[[int], None] = lambda count: None) -> Iterator[Answers]:
    """Count what a net answers, and those answers that are not finite.

    While open, infinite values in what it gives ``(B, ...)`` become NaN, so that no clamp turns them into black or
    white, and every figure made from such an answer is NaN too.

    Args:
        net: any net.
        progress: called with the number of answers so far.
    """
    answers = Answers()

    def look(module: Net, args: Any, out: Any) -> Any:
        if not isinstance(out, Tensor) or not out.ndim:
            return out
        finite = out.isfinite()
        broken = len(out) - int(finite.flatten(1).all(1).sum())
        answers.count += len(out)
        answers.not_finite += broken
        progress(answers.count)
        return torch.where(finite, out, torch.nan) if broken else out

    handle = net.register_forward_hook(look)
    try:
        yield answers
    finally:
        handle.remove()
