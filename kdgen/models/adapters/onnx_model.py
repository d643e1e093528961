"""A net that is an ONNX file, asked through onnxruntime."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdgen.models.adapters.onnx_graph import Graph, Port, line_of
from kdgen.models.input_shape import InputShape
from kdgen.recipe import RANGES
from kdgen.types import UserError, text
from kdgen.utils.onnx_session import Session

Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a file is asked for images.

    Attributes:
        image: the input that is the image.
        output: the name of the output that is the answer.
        layouts: order of the axes of both.
        channels: of both.
        given: the other inputs, by name.
        ranges: the values that both take.
        residual: whether the answer is to be subtracted from the input.
        batch: as many images are taken at once, and no fewer; None where any number is.
    """

    image: Port
    output: str
    layouts: tuple[Layout, Layout]
    channels: int
    given: Mapping[str, NDArray[Any]]
    ranges: tuple[tuple[float, float], tuple[float, float]] = (RANGES[0], RANGES[0])
    residual: bool = False
    batch: int | None = None


class OnnxModel(nn.Module):
    """An ONNX file asked through onnxruntime on the CPU: it gives answers, and neither gradients nor layers.

    Args:
        graph: the file.
        session: it under onnxruntime.
        way: how it is asked.
        input_shape: the heights and widths that it takes, where they are known.

    Attributes:
        num_weights: values of its weights.
        num_bytes: of the file.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, graph: Graph, session: Session, way: Way, input_shape: InputShape | None = None) -> None:
        super().__init__()
        self.graph, self.session, self.way, self.input_shape = graph, session, way, input_shape
        self.num_weights, self.num_bytes = graph.num_weights, len(session.file)
        self._macs: dict[tuple[int, ...], int] = {}
        self._digest = hashlib.sha256(session.file).hexdigest()[:16]

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to ``(B, C, scale H, scale W)``, without gradient.

        Raises:
            UserError: for what onnxruntime does not take.
        """
        parts = [self._ask(part) for part in torch.split(x.detach(), self.way.batch or len(x))]
        return torch.cat(parts).to(x.device)

    def macs(self, x: Tensor) -> int:
        """Multiply-accumulates of a call on ``x``; 0 where they cannot be counted."""
        part = x[: self.way.batch]
        shape = tuple(part.shape)
        if shape not in self._macs:
            self._macs[shape] = self.graph.macs(self._inputs(self._filled(part)))
        return self._macs[shape] * -(-len(x) // max(len(part), 1))

    def extra_repr(self) -> str:
        """The hash of the file, and how it is asked: what says of a net without weights of torch which one it is."""
        given = {name: value.tolist() for name, value in self.way.given.items()}
        return f"{self._digest}, {replace(self.way, given=given)}"

    def _filled(self, part: Tensor) -> Tensor:
        """Images as many as are taken at once, the last repeated."""
        missing = (self.way.batch or 0) - len(part)
        return torch.cat([part, *[part[-1:]] * missing])

    def _inputs(self, x: Tensor) -> dict[str, NDArray[Any]]:
        low, high = self.way.ranges[0]
        values = (x.float().cpu() + 1) * ((high - low) / 2) + low
        array = (values if self.way.layouts[0] == "nchw" else values.movedim(1, -1)).numpy()
        dtype = self.way.image.dtype
        if np.issubdtype(dtype, np.integer):
            array = array.round().clip(low, high)
        return {self.way.image.name: array.astype(dtype), **self.way.given}

    def _ask(self, part: Tensor) -> Tensor:
        inputs = self._inputs(self._filled(part))
        try:
            (array,) = self.session.run(inputs, [self.way.output])
        except Exception as error:  # whatever onnxruntime raises
            raise UserError(text("onnx_call", "{name} does not take {shape}: {reason}", name=self.graph.path.name,
                                 shape=str(tuple(part.shape)), reason=line_of(error))) from None  # fmt: skip
        low, high = self.way.ranges[1]
        out = torch.from_numpy(array.astype(np.float32))
        out = out if self.way.layouts[1] == "nchw" else out.movedim(-1, 1)
        out = (out - low) * (2 / (high - low)) - 1
        if self.way.residual:
            out = part.float().cpu() - (out + 1 + 2 * low / (high - low))[: len(part)]
        return out[: len(part)].contiguous()


__all__ = ["Layout", "OnnxModel", "Way"]
