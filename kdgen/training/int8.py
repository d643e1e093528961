"""A teacher in 8-bit integers under onnxruntime, which multiplies those faster on many processors."""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from kdgen.export.graph import program, signature, without_bound
from kdgen.export.onnx import OnnxNet, write_int8
from kdgen.types import Batch, Net
from kdgen.utils.conditions import call

WORTH = 60.0
"""Seconds that a teacher is to be asked for at least before it is tried in integers, which takes small ones 5 to 20."""

ANSWERS = 1000
"""How many answers take as long as it takes to try a large one: 560 s for one of 351 convolutions."""

FASTER = 1.2
"""How much faster it has to be."""


class Int8Net:
    """A net with its convolutions and matrix products in 8-bit integers, as ``write_int8`` makes them.

    Args:
        net: on the CPU.
        calibration: inputs that the ranges of its activations are taken from.

    Raises:
        UserError: for a net that torch can't trace, or with an operation that ONNX lacks.
    """

    def __init__(self, net: Net, calibration: Batch) -> None:
        called, example = signature(net, calibration)
        traced, called = program(net, example, called)
        self.called = without_bound(called)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "teacher.onnx"
            write_int8(traced, path, self.called.conditions, example)
            self.net = OnnxNet(path)

    def takes(self, x: Tensor) -> bool:
        """Whether inputs of this shape are taken: any batch, and any size or the one that it was made at."""
        shape = tuple(x.shape[1:])
        free = self.called.free and self.called.sizes is not None and self.called.sizes.takes(*shape[-2:])
        return self.called.largest_batch is None and (free or shape == self.called.shape)

    def __call__(self, batch: Batch) -> Tensor:
        """The answer to ``batch.x``, in float32."""
        return call(self.net, batch.x, batch.cond)


def can_run_int8() -> bool:
    """Whether what makes and runs such nets is installed."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxruntime", "onnxscript"))
