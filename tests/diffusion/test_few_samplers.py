"""Samplers of few steps: their noise levels, their steps, and that diffusers takes the same."""

import pytest
import torch
from torch import nn

from kdgen.diffusion import GaussianMixture, Timesteps, sample
from kdgen.diffusion.few_steps import euler_step, sample_few, trailing_sigmas
from kdgen.types import UserError

MIXTURE = GaussianMixture(torch.tensor([-0.6, 0.5]).view(2, 1, 1, 1), std=[0.15, 0.25], weights=[0.4, 0.6])


class Recording(nn.Module):
    conditions = frozenset({"sigma", "until"})

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, **cond):
        self.seen.append((x, {key: value.tolist() for key, value in cond.items()}))
        return 0.5 * x / (1 + cond["sigma"].view(-1, 1, 1, 1))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_levels_nest_and_fall_to_zero():
    for number in (1, 2, 3, 5, 8):
        sigmas = trailing_sigmas(number)
        assert len(sigmas) == number + 1
        assert (sigmas.diff() < 0).all()
        assert sigmas[-1] == 0
        torch.testing.assert_close(trailing_sigmas(2 * number)[::2], sigmas)
    torch.testing.assert_close(
        trailing_sigmas(4)[:-1].float(), torch.tensor([157.41, 17.247, 3.424, 0.953]), rtol=1e-3, atol=0
    )
    assert trailing_sigmas(2, "cosine")[1] == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_diffusers_schedulers_step_through_the_same_levels(steps):
    from diffusers import DDIMScheduler, LCMScheduler

    told = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    ddim = DDIMScheduler(**told, timestep_spacing="trailing")
    lcm = LCMScheduler(**told, original_inference_steps=1000)
    for scheduler in (ddim, lcm):
        scheduler.set_timesteps(steps)
        taken = Timesteps(scheduler.alphas_cumprod).sigma(scheduler.timesteps.double())
        torch.testing.assert_close(taken, trailing_sigmas(steps)[:-1], rtol=1e-5, atol=0)


def test_consistency_denoises_and_renoises():
    net, start, random = Recording(), noise(3, 1, 2, 2), torch.Generator().manual_seed(1)
    sigmas = torch.tensor([10.0, 2.0, 0.5, 0.0])
    fresh = [torch.randn(start.shape, generator=random) for _ in range(2)]
    parts = iter(fresh)
    out = sample_few(net, start, sigmas=sigmas, fresh=lambda like: next(parts))
    x = 10 * start
    for sigma, following, drawn in ((10.0, 2.0, fresh[0]), (2.0, 0.5, fresh[1])):
        x = 0.5 * x / (1 + sigma) + following * drawn
    torch.testing.assert_close(out, 0.5 * x / 1.5)
    assert [cond for _, cond in net.seen] == [{"sigma": [s] * 3} for s in (10.0, 2.0, 0.5)]


def test_euler_is_eulers_method_and_average_says_where_a_step_ends():
    start, sigmas = noise(5, 1, 1, 1), trailing_sigmas(4)
    few = sample_few(MIXTURE, start, sigmas=sigmas, sampler="euler")
    torch.testing.assert_close(few, sample(MIXTURE, start, sigmas=sigmas, method="euler"), rtol=1e-4, atol=1e-4)
    net = Recording()
    ends = torch.tensor([4.0, 1.0, 0.0])
    told = sample_few(net, start, sigmas=ends, sampler="average")
    assert [cond["until"] for _, cond in net.seen] == [[1.0] * 5, [0.0] * 5]
    torch.testing.assert_close(told, sample_few(Recording(), start, sigmas=ends, sampler="euler"))


def test_a_step_to_zero_is_the_denoised_image_and_one_to_where_it_is_none():
    x, denoised, sigma = noise(2, 1, 2, 2), noise(2, 1, 2, 2, seed=1), torch.tensor([3.0, 0.7])
    torch.testing.assert_close(euler_step(x, denoised, sigma, torch.zeros(2)), denoised)
    torch.testing.assert_close(euler_step(x, denoised, sigma, sigma), x)
    halfway = euler_step(x, denoised, sigma, sigma / 2)
    torch.testing.assert_close(halfway, (x + denoised) / 2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="from 1 to 1000 steps, not 0"):
        trailing_sigmas(0)
    with pytest.raises(UserError, match="one of linear, cosine"):
        trailing_sigmas(2, "quadratic")
    with pytest.raises(UserError, match="one of consistency, euler, average"):
        sample_few(MIXTURE, noise(1, 1, 1, 1), sigmas=trailing_sigmas(1), sampler="heun")
