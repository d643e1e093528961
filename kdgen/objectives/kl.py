"""Keep latents near the standard normal distribution."""

from torch import Tensor

from kdgen.objectives.probe import probe_layer
from kdgen.registry import register
from kdgen.types import Batch, LossInputs, Net, Objective, UserError, text


@register("objective")
class Kl(Objective):
    """KL of Gaussian latents to N(0, 1): Kingma & Welling 2014 (arXiv 1312.6114), appendix B.

    ``sum over the latent of (m^2 + v - log v - 1) / 2``, divided by the number of values ``C * H * W`` of the input
    image, as the mean squared error of a reconstruction is. So a weight means the same for all sizes of images and
    latents: for a Gaussian decoder of standard deviation ``s`` on images in [-1, 1], beside an ``l2`` of weight 1, it
    is ``2 s^2``. The layer holds means and then logarithms of variances along channels; logarithms are taken between
    -30 and 20.

    Args:
        layer: dotted path of the student's module that gives moments ``(B, 2Z, ...)``.

    Raises:
        UserError: in ``attach`` for a layer that the net does not have or that gives no moments, or inputs that are
            not images.
    """

    def __init__(self, layer: str = "moments") -> None:
        super().__init__()
        self.student_layers = (layer,)

    def attach(self, student: Net, batch: Batch) -> None:
        """Check the layer. Raises UserError where it gives no moments."""
        (layer,) = self.student_layers
        shape = tuple(probe_layer("kl", student, batch, layer).shape)
        if batch.x.dim() != 4:
            raise UserError(text("kl_encoders", "kl is for encoders of images, but the student is given latents: "
                                 "leave it out"))  # fmt: skip
        if len(shape) < 2 or shape[1] % 2:
            raise UserError(text("kl_moments", "kl reads moments (2Z, ...), but layer {layer} of the student gives "
                                 "{shape}: name another", layer=repr(layer), shape=str(shape[1:])))  # fmt: skip

    def loss(self, inputs: LossInputs) -> Tensor:
        """The KL per value of the image, ``(B,)``."""
        mean, log_variance = inputs.student_features[self.student_layers[0]].float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        terms = (mean.square() + log_variance.exp() - log_variance - 1) / 2
        return terms.flatten(1).sum(1) / inputs.batch.x[0].numel()
