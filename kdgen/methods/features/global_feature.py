"""An autoencoder learns what a teacher says, and a student what the autoencoder says."""

from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import check_outputs
from kdgen.models.fault_maps import Autoencoded
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net, UserError, text
from kdgen.utils.distance import distance, resample


@register("method")
class GlobalFeature(Method):
    """The losses of an autoencoder and of its prediction, ``L_AE + L_STAE`` of Batzner et al. 2024 (arXiv 2303.14535).

    Section 3.3: the autoencoder ``A`` learns to say what the teacher ``T`` says, and the second half ``S'`` of the
    student's channels what the autoencoder says, which of good pictures is a blurred version of the former. Where a
    picture is odd only as a whole the autoencoder errs in another way, which the student, who sees patches alone, has
    not learned. It leaves the first half to a method beside it: in the paper ``hard_feature``, with the same weight.

    Raises:
        UserError: in ``attach`` for a student without an autoencoder, and outputs of unlike channels.
    """

    reads = frozenset({"teacher"})

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the layer. Raises UserError for a student that is not ``Autoencoded``, or of other channels."""
        if not isinstance(student, Autoencoded):
            raise UserError(text("no_autoencoder", "global_feature teaches a student that holds an autoencoder, and "
                                 "{net} has none: set student to efficient_ad, or leave the method out",
                                 net=type(student).__name__))  # fmt: skip
        check_outputs("global_feature", *outputs(student, teacher, batch))
        self.student_layers = (student.together,)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """The means of ``(A - T) ** 2`` and of ``(S' - A) ** 2``, added, ``(B,)``."""
        (together,) = (inputs.student_features[path].float() for path in self.student_layers)
        _, predicted, encoded = together.chunk(3, dim=1)
        return distance("l2", encoded, resample(inputs.teacher, encoded)) + distance("l2", predicted, encoded)


__all__ = ["GlobalFeature"]
