"""What a net is shown of a noisy image, and what its answer stands for, so that both have variance 1 at every level."""

from torch import Tensor

from kdgen.diffusion.prediction import append_dims, scale_in, to_denoised


class Preconditioning:
    """EDM's preconditioning of a net ``F``: ``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``.

    Karras et al. 2022 (arXiv 2206.00364), eq. 7 and the column EDM of table 1: ``c_skip = d^2 / (sigma^2 + d^2)``,
    ``c_out = sigma d / sqrt(sigma^2 + d^2)``, ``c_in = 1 / sqrt(sigma^2 + d^2)``, ``c_noise = ln(sigma) / 4``, where
    ``d`` is ``sigma_data``. In units of ``d`` that is v-prediction of a process of constant variance with the sign
    turned.

    A net that holds one is EDM's in two lines::

        shown, noise = self.edm.shown(x, sigma)
        return self.edm.denoised(self.unet(shown, noise, label), x, sigma)

    Args:
        sigma_data: standard deviation of the data, 0.5 of images in [-1, 1].
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        self.sigma_data = sigma_data

    def shown(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """``c_in x`` ``(B, ...)`` and ``c_noise`` ``(B,)``, of ``x = y + sigma * n`` and ``sigma`` ``(B,)``."""
        scaled = x / self.sigma_data
        return scaled * append_dims(scale_in("v", sigma / self.sigma_data), x), sigma.log() / 4

    def denoised(self, out: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """``c_skip x + c_out out``, ``(B, ...)``, of the net's answer, the same ``x`` and the same ``sigma``."""
        data = self.sigma_data
        return data * to_denoised("v", -out, x / data, sigma / data)


__all__ = ["Preconditioning"]
