"""The exact denoiser against definitions."""

import torch

from kdgen.diffusion import GaussianMixture

MEANS = torch.tensor([[[[-0.6, 0.2]]], [[[0.5, 0.4]]], [[[0.1, -0.7]]]], dtype=torch.float64)
MIXTURE = GaussianMixture(MEANS, std=[0.05, 0.1, 0.2], weights=[5, 3, 2])


def log_density(x, sigma):
    """Of noisy data, from PyTorch's own distributions."""
    widened = (MIXTURE.std**2 + sigma**2).sqrt()[:, None].expand(-1, 2)
    parts = torch.distributions.Independent(torch.distributions.Normal(MEANS.flatten(1), widened), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(MIXTURE.weights), parts)
    return mixture.log_prob(x.flatten(1))


def test_it_meets_tweedies_formula():
    """D(x; sigma) = x + sigma^2 * gradient of the log density of noisy data, Karras et al. 2022, eq. 3."""
    for sigma in (0.05, 0.5, 5.0):
        x = torch.randn((16, 1, 1, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x = (x * (1 + sigma)).requires_grad_()
        (score,) = torch.autograd.grad(log_density(x, sigma).sum(), x)
        said = MIXTURE(x, sigma=torch.full((16,), sigma, dtype=torch.float64))
        torch.testing.assert_close(said, x + sigma**2 * score, rtol=1e-10, atol=1e-10)


def test_no_other_denoiser_has_a_smaller_error():
    y, _ = MIXTURE.draw(20_000, torch.Generator().manual_seed(0))
    x = y + 0.3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    sigma = torch.full((len(y),), 0.3, dtype=y.dtype)
    said = MIXTURE(x, sigma=sigma)
    error = (said - y).square().mean()
    assert abs(float(((said - y) * (said - x)).mean())) < 1e-3
    assert all(error < (MIXTURE(x, sigma=sigma * off) - y).square().mean() for off in (0.8, 1.25))


def test_a_label_is_its_component_and_one_more_the_mixture():
    x = torch.randn((4, 1, 1, 2), generator=torch.Generator().manual_seed(0))
    sigma = torch.full((4,), 0.7)
    said = MIXTURE(x, sigma=sigma, label=torch.tensor([0, 1, 2, 3]))
    assert said.dtype == torch.float32
    for k, std in enumerate((0.05, 0.1, 0.2)):
        alone = GaussianMixture(MEANS[k : k + 1], std=std)
        torch.testing.assert_close(said[k : k + 1], alone(x[k : k + 1], sigma=sigma[:1]))
    torch.testing.assert_close(said[3:], MIXTURE(x[3:], sigma=sigma[3:]))


def test_cdf_is_the_share_of_data_below():
    pixel = GaussianMixture(torch.tensor([-0.5, 0.4]).view(2, 1, 1, 1).double(), std=[0.1, 0.2], weights=[0.3, 0.7])
    y, component = pixel.draw(50_000, torch.Generator().manual_seed(0))
    assert abs(float((component == 0).double().mean()) - 0.3) < 0.01
    for value in (-0.5, 0.0, 0.5):
        share = (y < value).double().mean()
        assert abs(float(pixel.cdf(torch.full((1, 1, 1, 1), value).double(), 0.0)) - float(share)) < 0.01
