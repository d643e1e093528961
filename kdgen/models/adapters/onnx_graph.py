"""What an ONNX file says of itself: its inputs and outputs, what it ends in, and what a call of it costs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kdgen.models.adapters.weight_files import check_content
from kdgen.recipe import RANGES
from kdgen.types import UserError, text
from kdgen.utils.onnx_session import Session

OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Whose operations onnxruntime knows without anybody's code."""

COUNTED = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3, "MatMul": 1, "MatMulInteger": 1,
           "QLinearMatMul": 3, "Gemm": 1}  # fmt: skip
"""Operations whose multiply-accumulates are counted, and which of their inputs holds the weights."""

UNCOUNTED = frozenset({"Einsum", "LSTM", "GRU", "RNN", "DeformConv", "Attention"})
"""Others that multiply and accumulate, which are not."""

PASSING = frozenset({"Cast", "DepthToSpace", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""What leaves values as they are."""

NUMBERS = ("float16", "float32", "float64", "int8", "uint8")
"""Kinds of numbers that weights are of."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output.

    Attributes:
        name: in the file.
        dtype: of its numbers, None for what are none.
        shape: with None where a size is free; None where nothing is said.
    """

    name: str
    dtype: Any
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = "..." if self.shape is None else ", ".join("any" if n is None else str(n) for n in self.shape)
        return f"{self.name} ({sizes})"


class Graph:
    """An ONNX file, read without running anything.

    Args:
        path: the file. Weights beside it in another one are read with it.

    Attributes:
        inputs: those that have to be given.
        outputs: all of them.
        num_weights: values of its weights.

    Raises:
        UserError: where the packages for that are missing; for a file that is none, damaged or too large; for weights
            that are missing or lie anywhere but beside it; and for operations that need code of others.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.model = path, read_model(path)
        graph = self.model.graph
        if not graph.node or not graph.output:
            raise UserError(text("onnx_damaged", "{path} is damaged or no ONNX file: fetch or export it again",
                                 path=path))  # fmt: skip
        _join(self.model, path)
        _check_operations(self.model, path)
        given = {each.name for each in graph.initializer}
        self.inputs = [_port(each) for each in graph.input if each.name not in given]
        self.outputs = [_port(each) for each in graph.output]
        tensors = held(self.model, "TensorProto")
        self.num_weights = sum(prod(each.dims) for each in tensors if str(_dtype(each.data_type)) in NUMBERS)

    def session(self) -> Session:
        """The file under onnxruntime. Raises UserError where that does not take it."""
        try:
            return Session(self.model.SerializeToString())
        except Exception as error:  # whatever onnxruntime raises
            raise UserError(text("onnx_not_taken", "{path} is an ONNX file that onnxruntime does not run: {reason}",
                                 path=self.path, reason=line_of(error))) from None  # fmt: skip

    def ends_within(self, output: str) -> tuple[float, float] | None:
        """The values that an output takes where its last operation says so; None where it does not."""
        makers = {name: node for node in self.model.graph.node for name in node.output}
        node = makers.get(output)
        while node is not None and node.op_type in PASSING:
            node = makers.get(node.input[0])
        if node is None or node.op_type not in ("Sigmoid", "Tanh", "Clip"):
            return None
        if node.op_type != "Clip":
            return (0.0, 1.0) if node.op_type == "Sigmoid" else (-1.0, 1.0)
        limits = {each.name: each.f for each in node.attribute}
        bounds = [limits.get("min"), limits.get("max")]
        for number, name in enumerate(node.input[1:3]):
            bounds[number] = self._constant(name)
        return next((each for each in RANGES if [*each] == bounds), None)

    def _constant(self, name: str) -> float | None:
        """A number that the graph holds under a name."""
        from onnx import numpy_helper

        graph = self.model.graph
        found = {each.name: each for each in graph.initializer}
        found |= {node.output[0]: each.t for node in graph.node if node.op_type == "Constant"
                  for each in node.attribute if each.name == "value"}  # fmt: skip
        return float(numpy_helper.to_array(found[name]).reshape(-1)[0]) if name in found else None

    def macs(self, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Multiply-accumulates of a call, by the shapes that come up in it; 0 where they cannot be counted.

        Convolutions, transposed ones and matrix products are, as ``kdgen.metrics.cost.macs`` does.
        """
        import onnx

        nodes = [node for node in self.model.graph.node if node.op_type in COUNTED]
        parts = (*self.model.graph.node, *self.model.functions)
        within = {node.op_type for part in parts for node in held(part, "NodeProto")}
        if UNCOUNTED & {node.op_type for node in self.model.graph.node} or {*COUNTED, *UNCOUNTED} & within:
            return 0
        shown = [name for node in nodes for name in (node.input[0], node.input[COUNTED[node.op_type]], node.output[0])]
        names = {name: f"shape of {name}" for name in dict.fromkeys(shown)}
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        for name, shape in names.items():
            model.graph.node.append(onnx.helper.make_node("Shape", [name], [shape]))
            model.graph.output.append(onnx.helper.make_tensor_value_info(shape, onnx.TensorProto.INT64, [None]))
        try:
            found = Session(model.SerializeToString()).run(inputs) if nodes else []
        except Exception:  # whatever onnxruntime raises
            return 0
        shapes = dict(zip(names, (tuple(map(int, each)) for each in found), strict=True))
        return sum(_macs(node, shapes) for node in nodes)

    def __deepcopy__(self, memo: Any) -> Self:
        return self


def line_of(error: Exception) -> str:
    """What onnxruntime says in a line, without its codes."""
    return " ".join(str(error).rpartition(" : ")[2].split())[:200]


def _macs(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of one operation, from the shapes of its input, weights and output."""
    x, weights, out = (shapes[name] for name in (node.input[0], node.input[COUNTED[node.op_type]], node.output[0]))
    if node.op_type == "ConvTranspose":
        return prod(x) * prod(weights[1:])
    if "Conv" in node.op_type:
        return prod(out) * prod(weights[1:])
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return prod(out) * (x[-2] if transposed else x[-1])


def read_model(path: Path) -> Any:
    """The file as onnx reads it, weights that lie elsewhere left out.

    Raises:
        UserError: where the packages for that are missing, and for a file that is none or damaged.
    """
    check_content(path)
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(text("no_onnx", "{path} is an ONNX file, and {name}, which opens such, is not installed: run "
                             "`pip install 'kdgen[onnx]'`", path=path, name=error.name)) from None  # fmt: skip
    try:
        return onnx.load(path, load_external_data=False)
    except Exception:  # whatever protobuf raises
        raise UserError(text("onnx_damaged", "{path} is damaged or no ONNX file: fetch or export it again",
                             path=path)) from None  # fmt: skip


def _join(model: Any, path: Path) -> None:
    """Read weights that lie in files beside it, and nowhere else."""
    import onnx

    apart = [each for each in held(model, "TensorProto") if each.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in apart:
        name = next((each.value for each in tensor.external_data if each.key == "location"), "")
        file = path.parent / name
        if not name or Path(name).name != name or file.is_symlink():
            raise UserError(text("onnx_weights_elsewhere", "{path} names {name!r} for its weights, which is no file "
                                 "beside it: export it as one file", path=path, name=name[:60]))  # fmt: skip
        if not file.is_file():
            raise UserError(text("onnx_weights_missing", "{path} keeps its weights in {name}, which is not beside it: "
                                 "put it there, or export it as one file", path=path, name=name))  # fmt: skip
    try:
        for tensor in apart:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        if model.ByteSize() >= 2**31:
            raise ValueError("too large")
    except Exception:  # whatever reading raises for lengths that are none
        raise UserError(text("onnx_weights_damaged", "{path} has weights beside it that are damaged, or more than "
                             "2 GiB with it: export it again, smaller", path=path)) from None  # fmt: skip


def _check_operations(model: Any, path: Path) -> None:
    own = {each.domain for each in model.functions}
    for node in held(model, "NodeProto"):
        if node.domain not in (*OWN_DOMAINS, *own):
            raise UserError(text("onnx_operation", "{path} has the operation {name} of {domain}, which needs its "
                                 "authors' code: export it without", path=path, name=node.op_type[:60],
                                 domain=node.domain[:60]))  # fmt: skip


def held(message: Any, kind: str) -> Iterator[Any]:
    """All messages of a kind within one of onnx, however deep they lie: ``TensorProto`` or ``NodeProto``, say."""
    left = [message]
    while left:
        for field, value in left.pop().ListFields():
            if field.message_type is None:
                continue
            inner = [value] if hasattr(value, "ListFields") else list(value)
            left += inner
            yield from inner if field.message_type.name == kind else ()


def _port(value: Any) -> Port:
    held = value.type.tensor_type
    known = value.type.HasField("tensor_type") and held.HasField("shape")
    sizes = tuple(each.dim_value or None for each in held.shape.dim) if known else None
    return Port(value.name, _dtype(held.elem_type), sizes)


def _dtype(number: int) -> Any:
    from onnx.helper import tensor_dtype_to_np_dtype

    try:
        return np.dtype(tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError):
        return None


__all__ = ["Graph", "Port", "held", "line_of", "read_model"]
