"""ONNX files: written by torch's exporter, run by onnxruntime, quantized to int8 by onnxruntime."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from kdgen.export.graph import quiet
from kdgen.types import Batch, UserError, text
from kdgen.utils.onnx_session import Session

OPSET = 20
LARGEST = 1900 * 2**20
"""Bytes of weights that fit into one ONNX file, whose bound is 2 GiB."""

LINEAR = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
"""What int8 is for, each with the ReLU after it; additions, as of a denoiser's residual, stay in float32."""


def needs_onnx() -> None:
    """Refuse where the optional packages are missing.

    Raises:
        UserError: with the command that installs them.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(text("onnx_missing", "exporting to ONNX needs {name}: pip install 'kdgen[export]'",
                             name=error.name)) from None  # fmt: skip


def write_onnx(program: ExportedProgram, path: Path, names: Sequence[str]) -> None:
    """Write a program as an ONNX file whose inputs are ``x`` and the names given, and whose output is ``out``.

    Raises:
        UserError: for weights too large for one file, and an operation that ONNX lacks.
    """
    if sum(value.nbytes for value in program.state_dict.values()) > LARGEST:
        raise UserError(text("onnx_too_large", "the net is too large for one ONNX file (2 GiB): export it as "
                             "torch-export"))  # fmt: skip
    with quiet():
        try:
            made = torch.onnx.export(program, dynamo=True, input_names=["x", *names], output_names=["out"],
                                     opset_version=OPSET, verbose=False)  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(text("onnx_lacks", "ONNX lacks an operation of the net ({cause}): export it as "
                                 "torch-export", cause=cause)) from None  # fmt: skip
        assert made is not None
        for node in made.model.graph.all_nodes():
            node.metadata_props.clear()
        made.save(path)


class OnnxNet(nn.Module):
    """An ONNX file under onnxruntime on the CPU, called as kdgen calls nets, with as many threads as torch has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.session = Session(path.read_bytes())
        self.conditions = frozenset(self.session.inputs) - {"x"}

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """``x`` and the conditions that the file names, to its answer on the CPU."""
        return torch.from_numpy(self.session.run(feed(x, cond, self.session.inputs))[0])


def feed(x: Tensor, cond: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The inputs of a session by name."""
    inputs = {"x": x, **cond}
    return {name: np.ascontiguousarray(inputs[name].detach().cpu().numpy()) for name in names}


class Calibration:
    """Inputs one by one, as onnxruntime's calibration asks for them."""

    def __init__(self, batch: Batch, names: Sequence[str]) -> None:
        self.rows: Iterator[dict[str, Any]] = iter(
            [feed(batch.x[i : i + 1], {k: v[i : i + 1] for k, v in batch.cond.items()}, names)
             for i in range(len(batch.x))]
        )  # fmt: skip

    def get_next(self) -> dict[str, Any] | None:
        """The next input, None at the end."""
        return next(self.rows, None)


def write_int8(program: ExportedProgram, path: Path, names: Sequence[str], batch: Batch) -> None:
    """Write a program as an ONNX file whose convolutions and matrix products compute in int8.

    Weights are quantized by channel, activations by their range on ``batch``: static quantization, Jacob et al. 2018
    (arXiv 1712.05877). The first and the last layer stay in float32: they hold few weights and most of the loss.

    Args:
        program: the net.
        path: where the file goes.
        names: the conditions it takes.
        batch: what activations are calibrated on.

    Raises:
        UserError: as ``write_onnx`` does.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    float32 = path.with_name(f"{path.stem}.float32{path.suffix}")
    try:
        write_onnx(program, float32, names)
        graph = onnx.load(float32, load_external_data=False).graph
        layers = [node.name for node in graph.node if node.op_type in LINEAR]
        with quiet():
            quantize_static(
                float32,
                path,
                Calibration(batch, ["x", *names]),
                op_types_to_quantize=[*LINEAR, "Relu"],
                per_channel=True,
                nodes_to_exclude=[layers[0], layers[-1]] if len(layers) > 2 else [],
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        float32.unlink(missing_ok=True)
