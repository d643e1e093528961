"""Students for other programs: ONNX, ncnn, torch.export, half precision, int8, TAESD's layout, each checked."""

from kdgen.export.formats import FORMATS, Exported, export_model
from kdgen.export.parity import Parity

__all__ = ["FORMATS", "Exported", "Parity", "export_model"]
