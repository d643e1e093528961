"""Noise levels, draws and weights against reference values."""

import math

import pytest
import torch

from kdgen.diffusion import (
    Timesteps,
    alphas_cumprod,
    cosine_betas,
    discrete,
    edm_weight,
    flow_time,
    from_denoised,
    karras_sigmas,
    linear_betas,
    log_normal,
    log_uniform,
    logit_normal,
    min_snr_weight,
    prediction_weight,
)
from kdgen.types import UserError

COUNT = 200_000


def generator():
    return torch.Generator().manual_seed(0)


def test_karras_ends():
    sigmas = karras_sigmas(18)
    assert sigmas.shape == (19,)
    assert sigmas.dtype == torch.float64
    assert float(sigmas[0]) == pytest.approx(80, rel=1e-12)
    assert float(sigmas[-2]) == pytest.approx(0.002, rel=1e-12)
    assert float(sigmas[-1]) == 0
    assert bool((sigmas.diff() < 0).all())
    torch.testing.assert_close(karras_sigmas(1), torch.tensor([80.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"sigma_min": 0}, {"sigma_min": 90}])
def test_a_schedule_that_is_none_is_refused(wrong):
    with pytest.raises(UserError, match="sigma_min < sigma_max"):
        karras_sigmas(**{"num_steps": 4, **wrong})


def test_karras_is_that_of_diffusers():
    from diffusers import EDMEulerScheduler, EulerDiscreteScheduler

    edm = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0)
    edm.set_timesteps(18)
    torch.testing.assert_close(karras_sigmas(18).float(), edm.sigmas, rtol=1e-5, atol=0)
    euler = EulerDiscreteScheduler(use_karras_sigmas=True, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    euler.set_timesteps(20)
    table = Timesteps(euler.alphas_cumprod)
    sigmas = karras_sigmas(20, table.sigma_min, table.sigma_max)
    torch.testing.assert_close(sigmas.float(), euler.sigmas, rtol=1e-5, atol=0)
    torch.testing.assert_close(table.timestep(sigmas[:-1]).float(), euler.timesteps.float(), rtol=0, atol=2e-2)


@pytest.mark.parametrize(("betas", "name"), [(linear_betas, "linear"), (cosine_betas, "squaredcos_cap_v2")])
def test_tables_are_those_of_diffusers(betas, name):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(beta_schedule=name)
    torch.testing.assert_close(betas().float(), theirs.betas, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(alphas_cumprod(betas()).float(), theirs.alphas_cumprod, rtol=5e-4, atol=1e-7)


def test_log_normal_levels():
    logs = log_normal(COUNT, generator()).double().log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.01)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.01)


def test_log_uniform_levels():
    sigma = log_uniform(COUNT, generator())
    share = (sigma.double().log() - math.log(0.002)) / math.log(80 / 0.002)
    assert float(share.min()) >= -1e-6
    assert float(share.max()) <= 1 + 1e-6
    torch.testing.assert_close(share.histc(10, 0, 1) / COUNT, torch.full((10,), 0.1).double(), rtol=0, atol=4e-3)


def test_discrete_levels_are_those_of_the_table():
    table = Timesteps(alphas_cumprod(linear_betas(10, 0.01, 0.4)))
    seen, counts = discrete(COUNT, generator(), table).unique(return_counts=True)
    torch.testing.assert_close(seen, table.sigma(torch.arange(10)))
    torch.testing.assert_close(counts / COUNT, torch.full((10,), 0.1), rtol=0, atol=4e-3)


def test_logit_normal_times():
    logits = flow_time(logit_normal(COUNT, generator(), mean=0.5, std=0.8).double()).logit()
    assert float(logits.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(logits.std()) == pytest.approx(0.8, abs=0.01)


def test_draws_repeat_with_their_seed():
    for draw in (log_normal, log_uniform, logit_normal):
        assert torch.equal(draw(5, generator()), draw(5, generator()))
        assert draw(5, generator()).dtype == torch.float32


def test_weights():
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    torch.testing.assert_close(edm_weight(sigma), 1 / sigma**2 + 4)
    assert min_snr_weight(sigma).tolist() == pytest.approx([5, 4, 0.25])
    assert edm_weight(sigma.float()).dtype == torch.float32


@pytest.mark.parametrize("kind", ["epsilon", "v", "flow", "sample"])
def test_prediction_weight_turns_one_error_into_the_other(kind):
    sigma = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    x, one, other = torch.randn((3, 3, 1, 4, 4), generator=generator(), dtype=torch.float64)
    difference = from_denoised(kind, one, x, sigma) - from_denoised(kind, other, x, sigma)
    weighted = prediction_weight(kind, sigma) * (one - other).square().flatten(1).mean(1)
    torch.testing.assert_close(weighted, difference.square().flatten(1).mean(1), rtol=1e-10, atol=0)
