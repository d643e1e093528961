"""What is drawn from noise: whatever a net gives, so that latents beyond the range of images stay what they are."""

from torch import Tensor, nn

from kdgen.models.sampling import denoise_noise, draw_images


class Wide(nn.Module):
    """Latents far outside [-1, 1]."""

    def forward(self, z: Tensor) -> Tensor:
        return 5 * z.view(-1, 1, 2, 2)


class Wider(nn.Module):
    """A denoiser of latents of deviation 4 (Karras et al. 2022, eq. 3 for a normal distribution)."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        share = 16 / (16 + sigma**2)
        return x * share.view(-1, 1, 1, 1)


def test_latents_of_a_generator_are_not_clipped() -> None:
    assert draw_images(Wide(), [4], 64, 0).std() > 4


def test_latents_of_a_diffusion_net_are_not_clipped() -> None:
    assert abs(float(denoise_noise(Wider(), (1, 4, 4), 256, 0, 18).std()) - 4) < 0.5
