"""The teacher, made nearly free: frozen, and in the fastest numbers that are exact enough."""

import math
from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor

from kdgen.models.nets.fold import folded
from kdgen.models.teachers import told
from kdgen.training.int8 import Int8Net
from kdgen.training.tolerance import Bound, Judged, judge
from kdgen.types import Batch, Net, TeacherOutput, Text, text
from kdgen.utils.conditions import call
from kdgen.utils.devices import Autocast, fastest_seconds, lay_out
from kdgen.utils.distributed import Team
from kdgen.utils.hooks import capture_outputs

BOUND = Bound(own=0.02, spread=4e-4)
"""The most that an answer in fewer bits may be off: a fiftieth of the teacher's own squared error, which is 0.09 dB, or
where no truth is known a fiftieth of the standard deviation of its output."""


class Teacher(Autocast):
    """A net that answers and never learns: batch norm folded, channels last, in few bits where that is faster.

    Called as a net it computes in float32 or under autocast in bfloat16: convolutions do, the residual connection and
    the output stay in float32. Asked for an answer alone, which nobody differentiates, it may compute in 8-bit integers
    under onnxruntime. Both are tried on a sample and refused past the ``BOUND`` of their error against float32.

    It holds the weights of the net that it is made of, those aside that folding changes: they are kept once, in the
    layout that it computes in.

    Args:
        net: any net.
        sample: inputs to try fewer bits on, with their truth where there is one.
        device: where it computes.
        bfloat16: whether that is fast there.
        slices: processes that hold a slice of its weights each, and ask it together; None keeps it whole.

    Attributes:
        tried: how far off the faster numbers were found, by their names.
    """

    def __init__(
        self,
        net: Net,
        sample: Batch,
        *,
        device: torch.device,
        bfloat16: bool = False,
        slices: Team | None = None,
    ) -> None:
        likely = torch.bfloat16 if bfloat16 else torch.float32
        frozen = folded(net).eval().requires_grad_(False)
        if slices is None:
            same = _same_weights(net, frozen := frozen.to(device))
            held = lay_out(frozen, likely)
            for weight, moved in same:
                weight.data = moved.data
        else:
            held = slices.sharded(frozen).to(device)
        super().__init__(held, device, torch.float32)
        self.tried: dict[str, Judged] = {}
        self._int8: Int8Net | None = None
        if bfloat16:
            self._try_bfloat16(sample.to(device))

    def _try_bfloat16(self, sample: Batch) -> None:
        exact = self.answer(sample).output
        self.dtype = torch.bfloat16
        if not self._close("bfloat16", sample, exact):
            self.dtype = torch.float32

    def try_int8(self, calibration: Batch, sample: Batch, *, faster: float) -> bool:
        """Answer in 8-bit integers from now on where that is exact enough on other inputs, and so much faster.

        Where ``faster`` is 0, nothing is timed.

        Raises:
            UserError: as ``Int8Net`` does.
        """
        with torch.no_grad():
            asked = sample.for_teacher()
            exact = call(self.net, asked.x, asked.cond)
        seconds = partial(fastest_seconds, partial(self.answer, sample), self.device)
        before = seconds() if faster else math.inf
        self._int8 = Int8Net(self.net, calibration.for_teacher())
        if (faster and before < faster * seconds()) or not self._close("int8", sample, exact):
            self._int8 = None
        return self._int8 is not None

    def _close(self, name: str, sample: Batch, exact: Tensor) -> bool:
        answer = self.answer(sample).output
        self.tried[name] = judge(answer, exact.float(), BOUND, truth=sample.y, weight=sample.weight)
        return self.tried[name].passes

    def account(self) -> Text:
        """What it answers in and why, in a sentence; empty where nothing but float32 came into question."""
        found = [
            text("is_off", "{name} is off by {error}", name=name, error=error.account) if error.passes else
            text("would_be_off", "{name} would be off by {error}", name=name, error=error.account)
            for name, error in self.tried.items()
        ]  # fmt: skip
        return text("teacher_answers_in", "The teacher answers in {precision}: against float32, {found:; }.",
                    precision=self.precision, found=found) if found else Text("")  # fmt: skip

    @property
    def precision(self) -> str:
        """What its answers are computed in: ``float32``, ``bfloat16`` or, where they can be, ``int8``."""
        if self._int8 is not None:
            return "int8"
        return str(self.dtype).removeprefix("torch.")

    @torch.no_grad()
    def answer(
        self, batch: Batch, paths: Collection[str] = (), *, cached: TeacherOutput | None = None
    ) -> TeacherOutput:
        """The answer to a batch, with the outputs of the modules at ``paths``: the cached one where it has them all.

        Cached or not, it lies on the teacher's device.
        """
        if cached is not None and cached.features.keys() >= set(paths):
            features = {path: value.to(self.device) for path, value in cached.features.items()}
            return TeacherOutput(output=cached.output.to(self.device), features=features)
        view = batch.for_teacher()
        if not paths and self._int8 is not None and self._int8.takes(view.x):
            return TeacherOutput(output=self._int8(view))
        with capture_outputs(self.net, sorted(paths)) as outputs:
            output = call(self, view.x, told(self.net, view))
        return TeacherOutput(output=output, features=dict(outputs))


def _same_weights(net: Net, other: Net) -> list[tuple[Tensor, Tensor]]:
    """The parameters that two nets hold in the same memory."""
    by_address = {p.data_ptr(): p for p in net.parameters() if p.numel()}
    return [(by_address[p.data_ptr()], p) for p in other.parameters() if p.data_ptr() in by_address]
