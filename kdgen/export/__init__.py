"""Students for other runtimes: ONNX, ncnn, torch.export, half precision and int8, each checked against the student."""

from kdgen.export.formats import FORMATS, Exported, export_model
from kdgen.export.parity import Parity

__all__ = ["FORMATS", "Exported", "Parity", "export_model"]
