"""An ONNX file under onnxruntime."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray


class Session:
    """An ONNX file under onnxruntime on the CPU, with as many threads as torch has when it is asked.

    Args:
        file: its bytes, weights included.

    Attributes:
        inputs, outputs: names in the file's order.
    """

    def __init__(self, file: bytes) -> None:
        self.file = file
        self._by_threads: dict[int, Any] = {}
        self.inputs = [each.name for each in self._now.get_inputs()]
        self.outputs = [each.name for each in self._now.get_outputs()]

    @property
    def _now(self) -> Any:
        import onnxruntime

        threads = torch.get_num_threads()
        if threads not in self._by_threads:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 4
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.add_session_config_entry("session.load_model_format", "ONNX")  # never what its bytes look like
            self._by_threads[threads] = onnxruntime.InferenceSession(
                self.file, options, providers=["CPUExecutionProvider"]
            )
        return self._by_threads[threads]

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> list[NDArray[Any]]:
        """The outputs of these names, or all, for inputs by name."""
        arrays: list[NDArray[Any]] = self._now.run(
            outputs, {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        )
        return arrays

    def __deepcopy__(self, memo: Any) -> Self:
        return self


__all__ = ["Session"]
