"""What methods for few steps share: noisy images, a student's own drawings, and randomness played again."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from kdgen.diffusion import append_dims
from kdgen.diffusion.few_steps import ImageSampler, few_step
from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import ask, check_outputs, check_same_view
from kdgen.types import Batch, Net, UserError, text
from kdgen.utils.devices import Autocast


def noised(y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """``y + sigma * noise``, for images ``(B, C, H, W)`` and levels ``(B,)``."""
    return torch.addcmul(y, append_dims(sigma, y), noise)


def denoise(net: Net, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    """A net's answer to ``x`` ``(B, C, H, W)`` at levels ``sigma`` ``(B,)``, float32; ``cond`` says all else."""
    return ask(net, x, {**cond, "sigma": sigma})


def check_diffusion(method: str, student: Net, teacher: Net, batch: Batch, *, truth: bool = True) -> None:
    """Refuse batches and nets that know no diffusion.

    Args:
        method: its name, for the message.
        student: the student.
        teacher: the teacher.
        batch: a batch of the task.
        truth: whether the method needs clean images.

    Raises:
        UserError: without ``sigma`` or clean images, and for outputs that cannot be compared.
    """
    check_same_view(method, batch)
    if "sigma" not in batch.cond:
        raise UserError(text("rollout_diffusion", "{method} is for diffusion models: use it with the task few_steps "
                             "or diffuse", method=method))  # fmt: skip
    if truth and batch.y is None:
        raise UserError(text("rollout_clean", "{method} needs clean images: give the task images, for example the "
                             "teacher's own samples", method=method))  # fmt: skip
    student_out, teacher_out = outputs(student, teacher, batch)
    check_outputs(method, student_out, teacher_out, images=True)
    if student_out.shape != teacher_out.shape:
        sizes = ["x".join(map(str, out.shape[-2:])) for out in (student_out, teacher_out)]
        raise UserError(text("rollout_sizes", "{method} takes both nets along one path: the student gives images "
                             "{student} and the teacher images {teacher}, give nets of one size", method=method,
                             student=str(sizes[0]), teacher=str(sizes[1])))  # fmt: skip


def computing_like(net: Net) -> torch.autocast:
    """Under the autocast that a net of the loop computes in, for the nets of a method's own."""
    dtype, device = (net.dtype, net.device) if isinstance(net, Autocast) else (torch.float32, torch.device("cpu"))
    return torch.autocast(device.type, dtype, enabled=dtype in (torch.bfloat16, torch.float16))


def remembered(device: torch.device) -> Callable[[], None]:
    """Remember the state of the random generators; what is returned puts it back, so that dropout falls alike."""
    cpu_state = torch.get_rng_state()
    cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore() -> None:
        torch.set_rng_state(cpu_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, device)

    return restore


def draws_randomness(net: nn.Module) -> bool:
    """Whether a forward pass in the present mode may drop something."""
    dropping = nn.modules.dropout._DropoutNd
    return any(isinstance(module, dropping) and module.training and module.p > 0 for module in net.modules())


def backward_simulation(
    student: Net, like: Tensor, cond: Mapping[str, Tensor], sigmas: Tensor, sampler: ImageSampler
) -> tuple[Tensor, int]:
    """The student's own images from noise, with gradient through its last call alone.

    The calls before the last are made as in use: backward simulation, Yin et al. 2024 (arXiv 2405.14867), section 4.5.
    A consistency model gives an image at each of its levels, so the number of calls is drawn, from 1 to all; by Euler's
    steps all are made, since what an earlier call gives is where to go, and no image.

    Args:
        student: called as ``student(x, sigma=(B,), **cond)``.
        like: images ``(B, C, H, W)`` of the wanted shape.
        cond: conditions but ``sigma``.
        sigmas: levels of the student's steps, ``(k + 1,)``, falling to 0.
        sampler: how it goes from one to the next.

    Returns:
        images ``(B, C, H, W)`` float32, and the number of calls that made them.
    """
    levels = sigmas.tolist()
    last = len(levels) - 2
    if last > 0 and sampler == "consistency":
        last = int(torch.randint(last + 1, ()))
    x = torch.randn_like(like, dtype=torch.float32) * levels[0]
    with torch.no_grad():
        for sigma, following in pairwise(levels[: last + 1]):
            x = few_step(student, x, sigma, following, sampler=sampler, cond=cond)
    return few_step(student, x, levels[last], 0.0, sampler=sampler, cond=cond).float(), last + 1


def conditions(batch: Batch) -> dict[str, Tensor]:
    """The conditions of a batch but the noise level."""
    return {key: value for key, value in batch.cond.items() if key != "sigma"}
