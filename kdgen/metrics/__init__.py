"""What a result is worth and what it costs. Nothing here knows of tasks, recipes or data."""

from kdgen.metrics.cost import latency_ms, macs, num_params, size_bytes
from kdgen.metrics.fidelity import psnr, sharpness, ssim

__all__ = ["latency_ms", "macs", "num_params", "psnr", "sharpness", "size_bytes", "ssim"]
