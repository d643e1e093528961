"""The teacher, made nearly free: frozen, and in the fastest numbers that are exact enough."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kdgen.devices import Autocast, lay_out
from kdgen.parallel import Team
from kdgen.quantised import has_chains, in_floats, quantised
from kdgen.taps import taps
from kdgen.types import Answer, Batch, Net
from kdgen.zoo.fold import folded

TOLERANCE = {"bfloat16": 0.5 * 2 / 255, "int8": 1.0 * 2 / 255}
"""Root mean square error that an answer in [-1, 1] may have: half a level of an 8-bit image, and one."""


class Teacher(Autocast):
    """A net that answers and never learns: batch norm folded, channels last, in few bits where that is faster.

    Called as a net it computes in float32 or under autocast in bfloat16: convolutions do, the residual connection and
    the output stay in float32. Asked for an answer, which nobody differentiates, its chains of convolutions may compute
    in 8-bit integers. Both are tried on a sample and refused past the ``TOLERANCE`` for their error against float32.

    Args:
        net: any net.
        sample: inputs to try bfloat16 on.
        device: where it computes.
        bfloat16: whether that is fast there.
        calibration: where 8-bit integers are fast: gives the inputs that their ranges are taken from and that they are
            tried on, called only for a net that has such chains.
        slices: processes that hold a slice of its weights each, and ask it together; None keeps it whole.
    """

    def __init__(
        self,
        net: Net,
        sample: Batch,
        *,
        device: torch.device,
        bfloat16: bool = False,
        calibration: Callable[[], Batch] | None = None,
        slices: Team | None = None,
    ) -> None:
        likely = torch.bfloat16 if bfloat16 else torch.float32
        frozen = folded(net).eval().requires_grad_(False)
        held = lay_out(frozen.to(device), likely) if slices is None else slices.sharded(frozen).to(device)
        super().__init__(held, device, torch.float32)
        self._whole: Autocast | None = None
        self._hidden: frozenset[str] = frozenset()
        if bfloat16:
            self._try_bfloat16(sample.to(device))
        if calibration is not None and slices is None and has_chains(self.net):
            self._try_int8(calibration().to(device))

    def _try_bfloat16(self, sample: Batch) -> None:
        exact = self.answer(sample).output
        self.dtype = torch.bfloat16
        if not self._error(sample, exact) < TOLERANCE["bfloat16"]:
            self.dtype = torch.float32

    def _try_int8(self, sample: Batch) -> None:
        with torch.no_grad():
            exact = self.net(_view(sample), **sample.cond)
        made = quantised(self.net, _view(sample), sample.cond)
        self._whole, self._hidden = Autocast(made.net, self.device, self.dtype), made.hidden
        if not self._error(sample, exact) < TOLERANCE["int8"]:
            self._whole = None

    def _error(self, sample: Batch, exact: Tensor) -> float:
        return (self.answer(sample).output - exact).square().mean().sqrt().item()

    @property
    def precision(self) -> str:
        """What its answers are computed in: ``float32``, ``bfloat16`` or, where they can be, ``int8``."""
        if self._whole is not None:
            return "int8"
        return str(self.dtype).removeprefix("torch.")

    @torch.no_grad()
    def answer(self, batch: Batch, paths: Sequence[str] = ()) -> Answer:
        """The answer to a batch, with the outputs of the modules at ``paths``."""
        asked = self if self._whole is None or self._hidden.intersection(paths) else self._whole
        with taps(asked.net, paths) as seen:
            output = asked(_view(batch), **batch.cond)
        return Answer(output=output, taps=in_floats(asked.net, seen))


def _view(batch: Batch) -> Tensor:
    return batch.x if batch.teacher_x is None else batch.teacher_x
