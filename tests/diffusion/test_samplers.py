"""Samplers on data whose diffusion is known exactly."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from kdgen.diffusion import (
    GaussianMixture,
    Guidance,
    Timesteps,
    append_dims,
    from_denoised,
    karras_sigmas,
    sample,
    scale_in,
    trajectory,
)
from kdgen.registry import Spec, build
from kdgen.types import UserError

WEIGHTS = [0.5, 0.3, 0.2]
STDS = [0.05, 0.1, 0.15]
MEANS = torch.tensor([[[[-0.6, 0.4]]], [[[0.6, 0.5]]], [[[0.1, -0.7]]]], dtype=torch.float64)
MIXTURE = GaussianMixture(MEANS, std=STDS, weights=WEIGHTS)
PIXEL = GaussianMixture(torch.tensor([-0.6, 0.5]).view(2, 1, 1, 1).double(), std=[0.15, 0.3], weights=[0.4, 0.6])


class Counting(nn.Module):
    conditions = frozenset({"sigma", "label"})

    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, x, **cond):
        self.calls += 1
        return self.net(x, **cond)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def check_statistics(images, tolerance=1.0):
    """Shares, means and deviations of the components, to about four standard errors."""
    count = len(images)
    nearest = (images[:, None] - MEANS).flatten(2).square().sum(2).argmin(1)
    for k, (weight, std) in enumerate(zip(WEIGHTS, STDS, strict=True)):
        own = images[nearest == k]
        few = tolerance * 4 / math.sqrt(count * weight)
        assert len(own) / count == pytest.approx(weight, abs=few * weight)
        torch.testing.assert_close(own.mean(0), MEANS[k], rtol=0, atol=few * std + 1e-3)
        assert float(own.var(0).mean()) == pytest.approx(std**2, rel=2 * few)


def test_heun_reproduces_the_mixture():
    check_statistics(sample(MIXTURE, noise(20_000, 1, 1, 2), sigmas=karras_sigmas(32)))


def test_churn_reproduces_the_mixture_too():
    draws = torch.Generator().manual_seed(1)
    images = sample(MIXTURE, noise(8_000, 1, 1, 2), sigmas=karras_sigmas(64), churn=20, generator=draws)
    check_statistics(images, tolerance=1.5)


def ode_errors(method, steps):
    """How far single pixels stray from the exact solution: the ODE keeps each at its place in the distribution."""
    start = noise(100, 1, 1, 1)
    place = PIXEL.cdf(10 * start, 10.0)
    errors = []
    for num_steps in steps:
        sigmas = karras_sigmas(num_steps, 0.02, 10.0)
        *_, last, _ = trajectory(PIXEL, start, sigmas=sigmas, method=method)
        assert last.sigma == pytest.approx(0.02)
        errors.append(float((PIXEL.cdf(last.x, 0.02) - place).abs().mean()))
    return errors


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(method, order):
    errors = ode_errors(method, (33, 65, 129))
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


def test_one_gaussian_in_closed_form():
    alone = GaussianMixture(torch.full((1, 3, 4, 4), 0.2, dtype=torch.float64), std=0.3)
    start = noise(8, 3, 4, 4)
    for x, sigma, denoised in trajectory(alone, start, sigmas=karras_sigmas(200)):
        shrink = math.sqrt((0.3**2 + sigma**2) / (0.3**2 + 80**2))
        torch.testing.assert_close(x, 0.2 + shrink * (80 * start - 0.2), rtol=1e-3, atol=2e-3)
        if sigma:
            assert torch.equal(denoised, alone(x, sigma=torch.full((8,), sigma, dtype=torch.float64)))


@pytest.mark.parametrize(("method", "calls"), [("heun", 11), ("euler", 6)])
def test_calls_and_states(method, calls):
    net = Counting(MIXTURE)
    states = list(trajectory(net, noise(2, 1, 1, 2), sigmas=karras_sigmas(6), method=method))
    assert net.calls == calls
    assert [state.sigma for state in states] == karras_sigmas(6).tolist()
    assert states[-1].denoised is states[-1].x
    assert torch.equal(sample(MIXTURE, noise(2, 1, 1, 2), sigmas=karras_sigmas(6), method=method), states[-1].x)


def test_one_step_is_one_answer():
    start = noise(4, 1, 1, 2, dtype=torch.float32)
    answer = MIXTURE(80 * start, sigma=torch.full((4,), 80.0))
    assert torch.equal(sample(MIXTURE, start, sigmas=karras_sigmas(1)), answer)


def test_a_trajectory_resumes_from_any_of_its_states():
    start, sigmas = noise(4, 1, 1, 2), karras_sigmas(12)
    states = list(trajectory(MIXTURE, start, sigmas=sigmas))
    rest = sample(MIXTURE, states[5].x / sigmas[5], sigmas=sigmas[5:])
    torch.testing.assert_close(rest, states[-1].x, rtol=0, atol=1e-10)


def test_a_precise_state_keeps_single_precision_nets_nearer_to_the_truth():
    class Single(nn.Module):
        def forward(self, x, sigma):
            assert x.dtype == sigma.dtype == torch.float32
            return MIXTURE(x, sigma=sigma)

    start = noise(64, 1, 1, 2, dtype=torch.float32)
    truth = sample(MIXTURE, start.double(), sigmas=karras_sigmas(64))
    precise, plain = (sample(Single(), start, sigmas=karras_sigmas(64), precise=flag) for flag in (True, False))
    assert precise.dtype == plain.dtype == torch.float32
    error = [(images.double() - truth).square().mean().sqrt() for images in (precise, plain)]
    assert error[0] <= error[1] < 1e-4


def test_same_noise_same_images_and_churn_by_its_generator():
    start = noise(4, 1, 1, 2)
    assert torch.equal(sample(MIXTURE, start, sigmas=karras_sigmas(6)), sample(MIXTURE, start, sigmas=karras_sigmas(6)))
    once, again, other = (
        sample(MIXTURE, start, sigmas=karras_sigmas(6), churn=3, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_churn_keeps_to_its_range_and_to_the_true_level():
    draws = torch.Generator().manual_seed(0)
    states = list(
        trajectory(
            MIXTURE, noise(2, 1, 1, 2), sigmas=karras_sigmas(6), churn=3, churn_range=(0.05, 50), generator=draws
        )
    )
    for state, sigma in zip(states, karras_sigmas(6).tolist(), strict=True):
        most = min(3 / 6, math.sqrt(2) - 1)
        assert state.sigma == pytest.approx(sigma * (1 + most) if 0.05 <= sigma <= 50 else sigma)


def test_conditions_reach_the_net_and_gradients_flow():
    start = noise(2, 1, 1, 2).requires_grad_()
    labels = torch.tensor([2, 0])
    images = sample(MIXTURE, start, sigmas=karras_sigmas(100), cond={"label": labels})
    torch.testing.assert_close(images.detach(), MEANS[labels], rtol=0, atol=0.6)
    (gradient,) = torch.autograd.grad(images.sum(), start)
    torch.testing.assert_close(gradient.mean((1, 2, 3)), torch.tensor([0.15, 0.05]).double(), rtol=0.01, atol=0)


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 0.5], [0.5, 1.0, 0.0], [1.0, 1.0, 0.0], [float("nan"), 0.0]])
def test_levels_that_do_not_fall_to_zero_are_refused(sigmas):
    with pytest.raises(UserError, match="fall from the highest noise level to 0"):
        sample(MIXTURE, noise(1, 1, 1, 2), sigmas=torch.tensor(sigmas))


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="heun, euler, not 'ddim'"):
        sample(MIXTURE, noise(1, 1, 1, 2), sigmas=karras_sigmas(2), method="ddim")


def test_guidance():
    x, sigma, label = noise(6, 1, 1, 2), torch.full((6,), 0.8).double(), torch.arange(6) % 3
    conditional, unconditional = MIXTURE(x, sigma=sigma, label=label), MIXTURE(x, sigma=sigma)
    for scale in (0, 0.5, 1, 3):
        net = Counting(MIXTURE)
        said = Guidance(net, scale, {"label": torch.tensor(3)})(x, sigma=sigma, label=label)
        torch.testing.assert_close(said, unconditional + scale * (conditional - unconditional))
        assert net.calls == (1 if scale == 1 else 2)
    start = noise(6, 1, 1, 2)
    guided = sample(
        Guidance(MIXTURE, 2, {"label": torch.tensor(3)}), start, sigmas=karras_sigmas(16), cond={"label": label}
    )
    assert bool(((guided[:, None] - MEANS).flatten(2).square().sum(2).argmin(1) == label).all())


def test_a_scale_that_is_told_is_each_image_s_own():
    x, sigma, label = noise(3, 1, 1, 2), torch.full((3,), 0.8).double(), torch.arange(3)
    null, scales = {"label": torch.tensor(3)}, torch.tensor([1.0, 2.0, 5.0]).double()
    told = Guidance(MIXTURE, None, null)(x, sigma=sigma, label=label, guidance=scales)
    each = [Guidance(MIXTURE, float(scale), null)(x[i : i + 1], sigma=sigma[:1], label=label[i : i + 1])
            for i, scale in enumerate(scales)]  # fmt: skip
    torch.testing.assert_close(told, torch.cat(each))


def test_a_rescaled_answer_has_the_deviation_of_the_unguided_one():
    x, sigma, label = noise(3, 1, 4, 4), torch.full((3,), 0.8).double(), torch.arange(3)

    class Said(nn.Module):
        def forward(self, x, *, sigma, label):
            return x * (1 + label.view(-1, 1, 1, 1))

    null = {"label": torch.tensor(3)}
    plain, whole, half = (Guidance(Said(), 3.0, null, rescale=phi)(x, sigma=sigma, label=label) for phi in (0, 1, 0.5))
    deviation = Said()(x, sigma=sigma, label=label).flatten(1).std(1)
    torch.testing.assert_close(whole.flatten(1).std(1), deviation)
    torch.testing.assert_close(half, (plain + whole) / 2)
    assert not torch.allclose(plain.flatten(1).std(1), deviation)


def test_outside_its_interval_nothing_is_guided():
    x, label = noise(3, 1, 1, 2), torch.arange(3)
    sigma, null = torch.tensor([0.1, 0.8, 5.0]).double(), {"label": torch.tensor(3)}
    within = Guidance(MIXTURE, 3.0, null, interval=(0.5, 2.0))(x, sigma=sigma, label=label)
    always, never = Guidance(MIXTURE, 3.0, null)(x, sigma=sigma, label=label), MIXTURE(x, sigma=sigma, label=label)
    torch.testing.assert_close(within, torch.stack([never[0], always[1], never[2]]))


@pytest.mark.parametrize(("told", "message"), [
    ({"scale": [5, 2]}, "guidance.scale is a number and behind it a larger one"),
    ({"scale": [2, 5], "distilled": False}, "a range of guidance.scale is for a student that is told it"),
    ({"scale": 2, "rescale": 1.5}, "rescale"),
    ({"scael": 2}, "scale"),
    ("much", "guidance"),
])  # fmt: skip
def test_guidance_that_cannot_be_is_refused(told, message):
    with pytest.raises(UserError, match=message):
        build("task", Spec(name="diffuse", args={"guidance": told}))


def test_euler_is_the_ddim_of_diffusers():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(20)
    table = Timesteps(scheduler.alphas_cumprod)
    z = start = noise(4, 1, 1, 2, dtype=torch.float32)
    for timestep in scheduler.timesteps:
        sigma = table.sigma(timestep.expand(4))
        x = z / append_dims(scale_in("epsilon", sigma), z)
        said = from_denoised("epsilon", MIXTURE(x, sigma=sigma), x, sigma)
        z = scheduler.step(said, timestep, z).prev_sample
    sigmas = torch.cat([table.sigma(scheduler.timesteps.double()), torch.zeros(1)])
    first = start / scale_in("epsilon", sigmas[:1]).float() / sigmas[0].float()
    torch.testing.assert_close(sample(MIXTURE, first, sigmas=sigmas, method="euler"), z, rtol=0, atol=2e-3)
