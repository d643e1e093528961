"""What a diffusion net predicts, how its input is scaled and how it counts time, from and to the internal form.

Throughout, ``x = y + sigma * n`` is ``(B, ...)`` and ``sigma`` is ``(B,)``. Coefficients are computed in float64.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from kdgen.types import Text, UserError, text

Prediction = Literal["epsilon", "v", "flow", "sample"]
"""What a net predicts of ``x = y + sigma * n``.

``epsilon``: the noise ``n``, Ho et al. 2020 (arXiv 2006.11239).
``v``: ``alpha * n - s * y`` with ``alpha = 1 / sqrt(1 + sigma^2)`` and ``s = sigma * alpha``, Salimans & Ho 2022 (arXiv
2202.00512), appendix D.
``flow``: the velocity ``n - y`` of the straight line from image to noise, Liu et al. 2022 (arXiv 2209.03003).
``sample``: the denoised image itself.
"""

Process = Literal["exploding", "preserving", "flow"]
"""How a net's input ``z`` is scaled.

``exploding``: ``z = y + sigma * n``, the internal form.
``preserving``: ``z = alpha * y + s * n`` with ``alpha^2 + s^2 = 1``, of constant variance, as in DDPM.
``flow``: ``z = (1 - t) * y + t * n``.
"""

NO_IMAGE = 2.0**-24
"""What an ``alphas_cumprod`` of 0 counts as at most, so that its noise level, 4096 or more, is finite."""


def to_denoised(kind: Prediction, prediction: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The denoised image that a prediction stands for.

    Args:
        kind: what is predicted.
        prediction: ``(B, ...)``.
        x: the noisy image in the internal form, ``(B, ...)``; divide a foreign net's input by ``scale_in``.
        sigma: noise level, ``(B,)``, at least 0.

    Returns:
        ``(B, ...)`` in the wider dtype of ``prediction`` and ``x``, at least float32.

    Raises:
        UserError: for an unknown kind.
    """
    of_x, of_prediction = _coefficients(kind, sigma)
    return _combine(of_x, x, of_prediction, prediction)


def from_denoised(kind: Prediction, denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The prediction that stands for a denoised image: the inverse of ``to_denoised``.

    Args:
        kind: what to predict.
        denoised: ``(B, ...)``.
        x: the noisy image in the internal form, ``(B, ...)``.
        sigma: noise level, ``(B,)``; above 0 unless ``kind`` is ``sample``, since without noise nothing tells what
            it would have been.

    Returns:
        ``(B, ...)`` in the wider dtype of ``denoised`` and ``x``, at least float32.

    Raises:
        UserError: for an unknown kind.
    """
    of_x, of_prediction = _coefficients(kind, sigma)
    return _combine(-of_x / of_prediction, x, 1 / of_prediction, denoised)


def scale_in(kind: Prediction, sigma: Tensor, *, process: Process | None = None) -> Tensor:
    """What ``x`` is multiplied by before it enters a foreign net.

    Args:
        kind: what the net predicts.
        sigma: noise level, ``(B,)``.
        process: how the net's input is scaled; if not given, ``flow`` for a net that predicts it, else ``preserving``.

    Returns:
        ``(B,)`` in the dtype of ``sigma``: ``1 / sqrt(1 + sigma^2)`` if preserving, ``1 / (1 + sigma)`` for a flow.

    Raises:
        UserError: for an unknown kind or process.
    """
    _check(text("a_prediction", "a prediction"), kind, get_args(Prediction))
    process = process or ("flow" if kind == "flow" else "preserving")
    _check(text("a_process", "a process"), process, get_args(Process))
    level = _float64(sigma)
    scales = {"exploding": torch.ones_like(level), "preserving": (1 + level**2).rsqrt(), "flow": 1 / (1 + level)}
    return _like(scales[process], sigma)


def flow_time(sigma: Tensor) -> Tensor:
    """The time ``t = sigma / (1 + sigma)`` in [0, 1) of a flow ``z = (1 - t) * y + t * n``, ``(B,)``."""
    level = _float64(sigma)
    return _like(level / (1 + level), sigma)


def flow_sigma(time: Tensor) -> Tensor:
    """The noise level ``t / (1 - t)`` at a time in [0, 1) of a flow, ``(B,)``: the inverse of ``flow_time``."""
    t = _float64(time)
    return _like(t / (1 - t), time)


class Timesteps:
    """Noise levels of a table of discrete timesteps, between which their logarithms are interpolated.

    Step ``t`` has ``sigma = sqrt((1 - a_t) / a_t)``. Both directions take and give continuous values, and clamp at the
    ends of the table. They compute in float64 and give the dtype they are given, float32 for whole numbers.

    Attributes:
        sigma_min, sigma_max: noise levels of the first and the last step.

    Args:
        alphas_cumprod: the table ``a``, ``(T,)`` in [0, 1), falling. A 0, where no image is left, counts as 2^-24, or
            as a quarter of the value before it where that is less.

    Raises:
        UserError: for a table that is no such thing.
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        alphas = alphas_cumprod.detach().cpu().double()
        if alphas.ndim != 1 or len(alphas) < 2 or not bool(((alphas >= 0) & (alphas < 1)).all()):
            raise UserError(text("alphas_range", "give alphas_cumprod as a list of two or more values in [0, 1)"))
        alphas = torch.where(alphas == 0, alphas[:-1].min().div(4).clamp(max=NO_IMAGE), alphas)
        self._table = 0.5 * (torch.log1p(-alphas) - alphas.log())
        if not bool((self._table.diff() > 0).all()):
            raise UserError(text("alphas_order", "give alphas_cumprod in falling order, from almost no noise to "
                                 "almost only noise"))  # fmt: skip
        self.sigma_min, self.sigma_max = float(self._table[0].exp()), float(self._table[-1].exp())

    def __len__(self) -> int:
        return len(self._table)

    def same(self, other: "Timesteps") -> bool:
        """Whether another table has the same levels, to six digits."""
        return len(self) == len(other) and torch.allclose(self._table.cpu(), other._table.cpu(), rtol=0, atol=1e-6)

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level of a timestep in [0, T - 1], ``(B,)``."""
        t = _float64(timestep).clamp(0, len(self) - 1)
        table = self._table_at(t)
        low = t.long().clamp_max(len(self) - 2)
        return _like(torch.lerp(table[low], table[low + 1], t - low).exp(), timestep)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The timestep in [0, T - 1] of a noise level, ``(B,)``."""
        level = _float64(sigma).log()
        table = self._table_at(level)
        low = (table < level.unsqueeze(-1)).sum(-1).clamp(1, len(self) - 1) - 1
        within = (level - table[low]) / (table[low + 1] - table[low])
        return _like(low + within.clamp(0, 1), sigma)

    def _table_at(self, like: Tensor) -> Tensor:
        self._table = self._table.to(like.device)
        return self._table


def append_dims(values: Tensor, like: Tensor) -> Tensor:
    """One value for each image, ``(B,)``, as ``(B, 1, ...)`` with the dimensions, dtype and device of ``like``."""
    return values.to(like.dtype).to(like.device).view(-1, *[1] * (like.ndim - 1))


def _coefficients(kind: Prediction, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """``(a, b)``, each ``(B,)`` in float64, such that the denoised image is ``a * x + b * prediction``.

    For v, Salimans & Ho 2022: ``y = alpha * z - s * v`` with ``z = alpha * x``. For a flow ``y = z - t * u`` with
    ``z = (1 - t) * x``.
    """
    _check(text("a_prediction", "a prediction"), kind, get_args(Prediction))
    level = _float64(sigma)
    if kind == "epsilon":
        return torch.ones_like(level), -level
    if kind == "v":
        return 1 / (1 + level**2), -level * (1 + level**2).rsqrt()
    if kind == "flow":
        return 1 / (1 + level), -level / (1 + level)
    return torch.zeros_like(level), torch.ones_like(level)


def _combine(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(dtype), y.to(dtype)
    return append_dims(a, x) * x + append_dims(b, y) * y


def _float64(values: Tensor) -> Tensor:
    """The same in float64, on the CPU if the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _like(result: Tensor, reference: Tensor) -> Tensor:
    """A float64 result in the dtype and on the device of what was given, float32 for whole numbers."""
    return result.to(reference.dtype if reference.is_floating_point() else torch.float32).to(reference.device)


def _check(what: Text, name: str, choices: tuple[str, ...]) -> None:
    if name not in choices:
        raise UserError(text("one_of_choices", "{what} is one of {names:, }, not {given}", what=what, names=[*choices],
                             given=repr(name)))  # fmt: skip
