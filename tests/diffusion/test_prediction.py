"""Conversions, both ways, against definitions and against diffusers."""

from typing import get_args

import pytest
import torch

from kdgen.diffusion import (
    Prediction,
    Timesteps,
    alphas_cumprod,
    append_dims,
    cosine_betas,
    flow_sigma,
    flow_time,
    from_denoised,
    linear_betas,
    scale_in,
    to_denoised,
)
from kdgen.types import UserError

KINDS = get_args(Prediction)
LEVELS = torch.tensor([0.002, 0.05, 0.4, 1.0, 7.0, 80.0], dtype=torch.float64)


def pairs(dtype=torch.float64):
    draws = torch.Generator().manual_seed(0)
    y, n = torch.randn((2, len(LEVELS), 3, 4, 4), generator=draws, dtype=torch.float64)
    return y.to(dtype), n.to(dtype), (y + append_dims(LEVELS, y) * n).to(dtype)


def defined(kind, y, n):
    """Each prediction from its paper's own definition, from image and noise."""
    sigma = append_dims(LEVELS, y)
    alpha = (1 + sigma**2) ** -0.5
    return {"epsilon": n, "v": alpha * n - sigma * alpha * y, "flow": n - y, "sample": y}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_conversions_meet_the_definitions(kind):
    y, n, x = pairs()
    torch.testing.assert_close(to_denoised(kind, defined(kind, y, n), x, LEVELS), y, rtol=0, atol=1e-12)
    torch.testing.assert_close(from_denoised(kind, y, x, LEVELS), defined(kind, y, n), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trips_are_exact_for_any_prediction(kind):
    _, wild, x = pairs()
    there = from_denoised(kind, to_denoised(kind, wild, x, LEVELS), x, LEVELS)
    back = to_denoised(kind, from_denoised(kind, wild, x, LEVELS), x, LEVELS)
    torch.testing.assert_close(there, wild, rtol=1e-12, atol=2e-12)
    torch.testing.assert_close(back, wild, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_loses_no_more_than_its_inputs_did(kind):
    y, n, x = pairs()
    single = to_denoised(kind, defined(kind, y, n).float(), x.float(), LEVELS.float())
    assert single.dtype == torch.float32
    error = (single.double() - y).abs().flatten(1).amax(1)
    assert bool((error < 1e-6 * (1 + LEVELS)).all())


def test_half_precision_is_combined_in_single():
    _, n, x = pairs()
    assert to_denoised("epsilon", n.bfloat16(), x.bfloat16(), LEVELS).dtype == torch.float32


@pytest.mark.parametrize("kind", ["epsilon", "v", "flow"])
def test_without_noise_the_image_is_its_own_answer(kind):
    y, n, _ = pairs()
    assert torch.equal(to_denoised(kind, n, y, torch.zeros(len(y))), y)


def test_scales_bring_x_to_the_input_of_each_process():
    y, n, x = pairs()
    t = append_dims(flow_time(LEVELS), x)
    torch.testing.assert_close(append_dims(scale_in("flow", LEVELS), x) * x, (1 - t) * y + t * n, rtol=0, atol=1e-12)
    alpha = scale_in("v", LEVELS)
    torch.testing.assert_close(alpha**2 + (LEVELS * alpha) ** 2, torch.ones_like(alpha), rtol=1e-14, atol=0)
    assert torch.equal(scale_in("epsilon", LEVELS), alpha)
    assert torch.equal(scale_in("sample", LEVELS, process="flow"), scale_in("flow", LEVELS))
    assert torch.equal(scale_in("epsilon", LEVELS, process="exploding"), torch.ones_like(LEVELS))
    assert scale_in("v", LEVELS.float()).dtype == torch.float32


def test_flow_time_both_ways():
    torch.testing.assert_close(flow_sigma(flow_time(LEVELS)), LEVELS, rtol=1e-13, atol=0)
    assert flow_time(torch.tensor([0.0, 1.0, 3.0])).tolist() == [0, 0.5, 0.75]


def test_unknown_kinds_are_refused_by_name():
    _, n, x = pairs()
    for call in (
        lambda: to_denoised("noise", n, x, LEVELS),
        lambda: from_denoised("noise", n, x, LEVELS),
        lambda: scale_in("noise", LEVELS),
    ):
        with pytest.raises(UserError, match="epsilon, v, flow, sample, not 'noise'"):
            call()
    with pytest.raises(UserError, match="a process is one of"):
        scale_in("v", LEVELS, process="vp")


@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas(), linear_betas(10, 0.01, 0.4)])
def test_timesteps_both_ways(betas):
    table = Timesteps(alphas_cumprod(betas))
    whole = torch.arange(len(table))
    alphas = alphas_cumprod(betas)
    torch.testing.assert_close(table.sigma(whole.double()), ((1 - alphas) / alphas).sqrt(), rtol=1e-12, atol=0)
    between = torch.linspace(0, len(table) - 1, 997, dtype=torch.float64)
    torch.testing.assert_close(table.timestep(table.sigma(between)), between, rtol=0, atol=1e-9)
    middle = table.sigma(torch.tensor([3.0, 3.5, 4.0], dtype=torch.float64))
    torch.testing.assert_close(middle[1], (middle[0] * middle[2]).sqrt(), rtol=1e-12, atol=0)
    assert table.sigma(whole).dtype == torch.float32


def test_timesteps_clamp_at_the_ends():
    table = Timesteps(alphas_cumprod(linear_betas()))
    assert table.timestep(torch.tensor([0.0, 1e-6, 1e6])).tolist() == [0, 0, 999]
    ends = table.sigma(torch.tensor([-5.0, 2000.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([table.sigma_min, table.sigma_max], dtype=torch.float64))


def test_a_table_that_ends_in_pure_noise_has_a_finite_last_level():
    assert Timesteps(torch.tensor([0.9, 0.5, 0.0])).sigma_max == pytest.approx(2**12, rel=1e-6)


@pytest.mark.parametrize("table", [[0.5], [0.5, 0.9], [1.0, 0.5], [0.9, -0.1], [0.9, 0.9], [0.9, float("nan")]])
def test_what_is_no_table_is_refused(table):
    with pytest.raises(UserError, match="alphas_cumprod"):
        Timesteps(torch.tensor(table))


@pytest.mark.parametrize(("kind", "name"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("sample", "sample")])
def test_denoised_images_are_those_of_diffusers(kind, name):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=name, clip_sample=False)
    scheduler.set_timesteps(1000)
    table = Timesteps(scheduler.alphas_cumprod)
    draws = torch.Generator().manual_seed(1)
    for timestep in (1, 250, 999):
        z, said = torch.randn((2, 2, 3, 4, 4), generator=draws)
        sigma = table.sigma(torch.full((2,), timestep))
        x = z / append_dims(scale_in(kind, sigma), z)
        theirs = scheduler.step(said, timestep, z).pred_original_sample
        torch.testing.assert_close(to_denoised(kind, said, x, sigma), theirs, rtol=1e-4, atol=1e-4)
