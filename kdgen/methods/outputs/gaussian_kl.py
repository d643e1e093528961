"""Match the Gaussian latents of two encoders."""

from torch import Tensor

from kdgen.methods.layer_matching import probe
from kdgen.registry import register
from kdgen.types import ROLE_WORDS, Batch, DistillationInputs, Method, Net, UserError, text
from kdgen.utils.distance import resample
from kdgen.utils.hooks import no_tensor


@register("method")
class GaussianKl(Method):
    """Closed-form KL between Gaussian latents, Kingma & Welling 2014 (arXiv 1312.6114), appendix B, for two Gaussians.

    With means ``m`` and variances ``v`` of teacher and student, ``KL(T || S) = (log(v_s / v_t) + (v_t + (m_t - m_s)^2)
    / v_s - 1) / 2``, averaged over the elements of a latent. Moments hold means and then logarithms of variances along
    channels; logarithms are taken between -30 and 20. Where sizes differ, the teacher's moments are resampled.

    Args:
        student_layer: dotted path of the student's module that gives moments ``(B, 2Z, ...)``; none for its output.
        teacher_layer: the same of the teacher.
        reverse: use ``KL(S || T)``, which keeps to what the teacher finds likely and may leave some of it out.

    Raises:
        UserError: in ``attach`` for a layer that a net does not have, or that gives no moments of like latents.
    """

    def __init__(
        self, student_layer: str | None = "moments", teacher_layer: str | None = "moments", reverse: bool = False
    ) -> None:
        super().__init__()
        self.student_layer, self.teacher_layer, self.reverse = student_layer, teacher_layer, reverse

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the layers. Raises UserError where moments are missing or unlike."""
        student_shape = _settled("student", student, batch, self.student_layer)
        teacher_shape = _settled("teacher", teacher, batch.for_teacher(), self.teacher_layer)
        compared = slice(1, 2 if batch.teacher_x is not None else None)  # a view of another size has larger latents
        if len(student_shape) != len(teacher_shape) or student_shape[compared] != teacher_shape[compared]:
            raise UserError(text("moments_differ", "gaussian_kl cannot compare moments {student} of the student and "
                                 "{teacher} of the teacher: give nets with latents of one kind",
                                 student=str(student_shape[1:]), teacher=str(teacher_shape[1:])))  # fmt: skip
        self.student_layers = (self.student_layer,) if self.student_layer else ()
        self.teacher_layers = (self.teacher_layer,) if self.teacher_layer else ()

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """The KL averaged over the elements of a latent, ``(B,)``."""
        student = inputs.student_features[self.student_layer] if self.student_layer else inputs.student
        teacher = inputs.teacher_features[self.teacher_layer] if self.teacher_layer else inputs.teacher
        p, q = resample(teacher, student.float()), student.float()
        return gaussian_kl(q, p) if self.reverse else gaussian_kl(p, q)


def gaussian_kl(p: Tensor, q: Tensor) -> Tensor:
    """``KL(p || q)`` of diagonal Gaussians by their moments ``(B, 2Z, ...)``, averaged over elements: ``(B,)``."""
    (p_mean, p_log), (q_mean, q_log) = (moments.chunk(2, dim=1) for moments in (p, q))
    p_log, q_log = p_log.clamp(-30, 20), q_log.clamp(-30, 20)
    ratio = p_log - q_log
    kl = (ratio.exp() - ratio - 1 + (p_mean - q_mean).square() * (-q_log).exp()) / 2
    return kl.flatten(1).mean(1)


def _settled(role: str, net: Net, batch: Batch, layer: str | None) -> tuple[int, ...]:
    """The shape of a net's moments."""
    output, features = probe(net, batch.x, batch.cond, [layer] if layer else [])
    if layer and layer not in features:
        raise UserError(no_tensor("gaussian_kl", layer, ROLE_WORDS[role]))
    shape = tuple((features[layer] if layer else output).shape)
    if len(shape) not in (2, 4) or shape[1] % 2:
        words = ROLE_WORDS[role]
        source = (text("layer_of", "layer {layer!r} of the {role}", layer=layer, role=words) if layer else
                  text("the_role", "the {role}", role=words))  # fmt: skip
        raise UserError(text("no_moments", "gaussian_kl reads moments (2Z) or (2Z, H, W), but {source} gives "
                             "{shape}: name another", source=source, shape=str(shape[1:])))  # fmt: skip
    return shape
