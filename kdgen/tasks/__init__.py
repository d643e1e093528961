"""One file a task: where batches come from, what the ground truth is, how a result is measured."""

from kdgen.tasks.denoise import Denoise

__all__ = ["Denoise"]
