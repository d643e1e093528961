"""What a result is worth and what it costs. Nothing here knows of tasks, recipes or data."""

from kdgen.metrics.classification import classified, predicted
from kdgen.metrics.cost import latencies_ms, latency_ms, macs, num_params, size_bytes
from kdgen.metrics.distribution import (
    Gaussian,
    density_coverage,
    digest,
    distances,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from kdgen.metrics.diversity import mean_pairwise_distance, sharpness_ratio, vendi_score
from kdgen.metrics.extractors import Extractor, extractor
from kdgen.metrics.fidelity import psnr, sharpness, ssim
from kdgen.metrics.finite import Answers, watched
from kdgen.metrics.perceptual import Perceptual, perceptual
from kdgen.metrics.signs import BOUNDS, SignWatch, beyond, signs

__all__ = ["BOUNDS", "Answers", "Extractor", "Gaussian", "Perceptual", "SignWatch", "beyond", "classified",
           "density_coverage", "digest", "distances", "extractor", "frechet_distance", "kernel_distance",
           "latencies_ms", "latency_ms", "macs", "mean_pairwise_distance", "num_params", "perceptual",
           "precision_recall", "predicted", "psnr", "sharpness", "sharpness_ratio", "signs", "size_bytes", "ssim",
           "vendi_score", "watched"]  # fmt: skip
