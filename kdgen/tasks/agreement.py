"""How near restored images come to those of the teacher."""

from functools import cached_property
from weakref import WeakKeyDictionary

from torch import Tensor

from kdgen.metrics import psnr, ssim
from kdgen.metrics.perceptual import Perceptual, perceptual
from kdgen.models.tiling import whole
from kdgen.types import Batch, Net
from kdgen.utils.devices import device_of, evaluating

MOST_KEPT = 2**27
"""Bytes of a teacher's answers that are kept between evaluations."""

Known = tuple[str, str, int]
"""By what an answer is known again: its image, the level of damage, the seed."""


class Agreement:
    """Compares answers with a teacher's, who is asked once for each image while there is room to keep what it says."""

    def __init__(self) -> None:
        self._answers: WeakKeyDictionary[Net, dict[Known, Tensor]] = WeakKeyDictionary()

    def __call__(self, out: Tensor, teacher: Net, batch: Batch, known: Known) -> dict[str, float]:
        """``psnr@teacher``, ``ssim@teacher`` and ``perceptual@teacher`` of an answer ``(1, C, H, W)`` in [-1, 1].

        Args:
            out: the answer.
            teacher: who is asked the same.
            batch: what it is asked.
            known: by what that is known again.
        """
        answer = self._answer(teacher, batch, known).to(out.device)
        distance = self._perceptual.to(out.device)(out, answer)
        return {"psnr@teacher": psnr(out, answer).item(), "ssim@teacher": ssim(out, answer).item(),
                "perceptual@teacher": distance.item()}  # fmt: skip

    @cached_property
    def _perceptual(self) -> Perceptual:
        return perceptual("features32")

    def _answer(self, teacher: Net, batch: Batch, known: Known) -> Tensor:
        kept = self._answers.setdefault(teacher, {})
        if (answer := kept.get(known)) is None:
            at = batch.to(device_of(teacher))
            with evaluating(teacher):
                answer = whole(teacher, at.x, at.cond).float().clamp(-1, 1).cpu()
            if sum(each.nbytes for each in kept.values()) + answer.nbytes <= MOST_KEPT:
                kept[known] = answer
        return answer
