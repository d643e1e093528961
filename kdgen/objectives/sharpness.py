"""Be as sharp as the data, no less and no more."""

from torch import Tensor

from kdgen.metrics.fidelity import gradient_energy
from kdgen.objectives.probe import probe
from kdgen.registry import register
from kdgen.types import Batch, LossInputs, Net, Objective, UserError, text
from kdgen.utils.distance import resample


@register("objective")
class Sharpness(Objective):
    """Gradient energy like that of the data: ``|E(student) - E(data)| / mean E(data)``, 0 where they are as sharp.

    ``E`` is ``kdgen.metrics.fidelity.gradient_energy``, as the metric of the same name has it. Where the batch holds
    the truth ``y``, each image is held against its own, and ``mean E(data)`` is that of the batch, so that flat truths
    weigh little. Otherwise the mean over the student's images is held against the mean over images of the data,
    ``real``, and every image has the same loss. Images of the data are resampled to the student's size first.

    Raises:
        UserError: in ``attach`` for batches without images of the data, or a student that gives no images.
    """

    def attach(self, student: Net, batch: Batch) -> None:
        """Check that there is something to compare. Raises UserError where there is not."""
        probe("sharpness", student, batch)
        _data(batch)

    def loss(self, inputs: LossInputs) -> Tensor:
        """``|E(student) - E(data)| / mean E(data)``, ``(B,)``."""
        data, paired = _data(inputs.batch)
        pred, target = gradient_energy(inputs.student), gradient_energy(resample(data, inputs.student))
        if not paired:
            pred, target = pred.mean().expand(len(pred)), target.mean().expand(len(pred))
        return (pred - target).abs() / target.mean().clamp_min(1e-6)


def _data(batch: Batch) -> tuple[Tensor, bool]:
    """Images of the data, and whether each belongs to an input."""
    if batch.y is not None and batch.y.dim() == 4:
        return batch.y, True
    if batch.real is not None:
        return batch.real, False
    raise UserError(text("sharpness_images", "sharpness needs images of the data, and this task's batches have none: "
                         "give the task images"))  # fmt: skip
