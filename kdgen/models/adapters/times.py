"""A diffusion U-Net that counts time otherwise than the one whose weights it starts from."""

from typing import Any

import torch
import torch.nn.functional as F

from kdgen.diffusion.prediction import Timesteps
from kdgen.models.adapters.blocks import evenly
from kdgen.utils.devices import device_of

FITTED = 300
"""Steps of L-BFGS; on a table of 1000 timesteps they take a few seconds."""


def match_times(student: Any, timesteps: Timesteps, teacher: Any, teacher_timesteps: Timesteps) -> float:
    """Fit a U-Net's embedding of time to its teacher's: at each noise level what the teacher's says there, in place.

    All other weights of a net that starts from its teacher's then mean what they meant, though timestep 500 is another
    noise level. Levels beyond the teacher's table are told as its end.

    Args:
        student: a model of diffusers with ``time_proj`` and ``time_embedding``.
        timesteps: the table of its timesteps.
        teacher: another such model; of a wider embedding evenly spaced entries count.
        teacher_timesteps: the table of its timesteps.

    Returns:
        the root mean square that is left, as a share of the embedding's own.
    """
    teacher_device, device = device_of(teacher), device_of(student)
    steps = torch.arange(len(timesteps), dtype=torch.float64)
    sigma = timesteps.sigma(steps)
    with torch.no_grad():
        target = teacher.time_embedding(
            teacher.time_proj(teacher_timesteps.timestep(sigma).float().to(teacher_device))
        ).to(device)
        projected = student.time_proj(steps.float().to(device))
        target = evenly(target, torch.empty(len(target), student.time_embedding.linear_2.out_features))
    net = student.time_embedding
    optimizer: Any = torch.optim.LBFGS(
        net.parameters(), max_iter=FITTED, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        optimizer.zero_grad()
        loss: Any = F.mse_loss(net(projected), target)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
        residual = F.mse_loss(net(projected), target) / target.square().mean()
    optimizer.zero_grad(set_to_none=True)
    return float(residual.detach().sqrt())
