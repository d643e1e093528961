"""Metrics against independent computations and known nets."""

import math
import time

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from kdgen.data import Photographs
from kdgen.metrics import latencies_ms, latency_ms, macs, num_params, psnr, sharpness, size_bytes, ssim


@pytest.fixture(scope="module")
def pair():
    truth = torch.cat([x[..., :120, :100] for _, x in Photographs().images(3)])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (truth + 0.15 * noise).clamp(-1, 1), truth


def test_psnr_is_that_of_skimage(pair):
    ours = psnr(*pair)
    theirs = [peak_signal_noise_ratio(t.numpy(), o.numpy(), data_range=2) for o, t in zip(*pair, strict=True)]
    assert ours.shape == (5,)
    assert np.allclose(ours, theirs, atol=1e-4)
    shifted = psnr(torch.full((1, 1, 4, 4), 0.2), torch.zeros(1, 1, 4, 4))
    assert shifted.item() == pytest.approx(10 * math.log10(4 / 0.04), abs=1e-4)
    assert psnr(pair[1], pair[1]).eq(100).all()


def test_ssim_of_a_single_window_is_the_formula(pair):
    """Wang et al. 2004, eq. 13 with the weights of eq. 14, on images as large as the window."""
    out, truth = (x[:, :1, :11, :11].double() for x in pair)
    line = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    window = torch.outer(line, line) / line.sum() ** 2

    def mean(x):
        return (window * x).sum((1, 2, 3))

    a, b = mean(out), mean(truth)
    variances = mean(out**2) - a**2 + mean(truth**2) - b**2
    covariance = mean(out * truth) - a * b
    c1, c2 = 0.02**2, 0.06**2
    expected = (2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (variances + c2))
    assert torch.allclose(ssim(out, truth), expected.float(), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (7, 5), (11, 11), (10, 40)])
def test_small_images_have_figures_too(shape):
    truth = torch.rand(2, 1, *shape) * 2 - 1
    for measure in (psnr, ssim, sharpness):
        assert measure(truth * 0.9, truth).shape == (2,)
        assert measure(truth * 0.9, truth).isfinite().all()
    assert torch.allclose(ssim(truth, truth), torch.ones(2), atol=1e-3)


def test_sharpness_falls_with_blur_and_grows_with_noise(pair):
    _, truth = pair
    blurred = nn.functional.avg_pool2d(truth, 3, 1, 1)
    assert torch.allclose(sharpness(truth, truth), torch.ones(5))
    assert torch.allclose(sharpness(0.5 * truth, truth), torch.full((5,), 0.25))
    assert (sharpness(blurred, truth) < 0.9).all()
    assert (sharpness(truth + 0.2 * torch.randn(truth.shape), truth) > 1.1).all()
    assert sharpness(torch.rand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)).item() == 1
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    assert sharpness(ramp * 3, ramp).item() == pytest.approx(9)


def test_unlike_shapes_are_refused():
    for measure in (psnr, ssim, sharpness):
        with pytest.raises(ValueError, match="shape"):
            measure(torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 3, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x, **cond):
        return self.up(self.norm(self.conv(x))[..., ::2, ::2]) * cond["gain"].view(-1, 1, 1, 1)


def test_nets_are_timed_in_turn_and_equal_ones_as_one():
    order = []

    class Named(nn.Linear):
        def forward(self, x, **cond):
            order.append(self)
            return super().forward(x)

    small, twin, large = Named(4, 4), Named(4, 4), Named(4, 8)
    times = latencies_ms([small, large, twin], torch.zeros(1, 4), rounds=5)
    assert times[0] == times[2] > 0
    assert order == [small, large] * (len(order) // 2)
    assert len(order) >= 10


def test_a_busy_machine_hardly_changes_a_latency():
    calls = []

    class Disturbed(nn.Linear):
        def forward(self, x, **cond):
            calls.append(1)
            time.sleep(0.05 if len(calls) % 3 else 0.005)
            return super().forward(x)

    assert 5 <= latency_ms(Disturbed(4, 4), torch.zeros(1, 4), rounds=9) < 25


def test_a_slow_net_is_called_no_more_than_it_takes():
    calls = []

    class Slow(nn.Linear):
        def forward(self, x, **cond):
            calls.append(1)
            time.sleep(0.1)
            return super().forward(x)

    assert latency_ms(Slow(4, 4), torch.zeros(1, 4)) >= 100
    assert len(calls) == 8, "three to warm up, and five"


def test_costs_of_a_known_net():
    net, gain = Tiny(), {"gain": torch.ones(1)}
    net.norm.eval()
    net.register_parameter("again", net.conv.bias)
    assert num_params(net) == 3 * 8 * 9 + 8 + 8 * 3 * 4 + 3 + 16
    assert macs(net, torch.zeros(1, 3, 32, 32), gain) == 32 * 32 * 3 * 8 * 9 + 16 * 16 * 8 * 3 * 4
    assert macs(nn.Conv2d(1, 16, 3, padding=1), torch.zeros(1, 1, 256, 256)) == 256 * 256 * 16 * 9
    assert latency_ms(net, torch.zeros(1, 3, 8, 8), gain, rounds=3) > 0
    assert net.training
    assert not net.norm.training


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        heads = tokens.view(1, -1, 2, 8).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(heads, heads, heads).sum() + self.inner(*[tokens] * 3)[0]


def test_attention_is_counted_whichever_path_it_takes():
    """Queries by keys and weights by values: 2 N^2 D of N tokens of D channels; and four N D^2 around them."""
    tokens, width = 6 * 5, 16
    by_hand = 2 * tokens**2 * width + (4 * tokens * width**2 + 2 * tokens**2 * width)
    assert macs(Attentive(), torch.zeros(1, width, 6, 5)) == by_hand
    assert torch.backends.mha.get_fastpath_enabled()


def test_size_is_that_of_the_stored_file(tmp_path):
    from safetensors.torch import save_file

    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    assert size_bytes(net) == (tmp_path / "net.safetensors").stat().st_size
    assert size_bytes(net) > 4 * num_params(net)
    tied = nn.ModuleList([net[2], net[2]])
    assert size_bytes(tied) < 1.5 * size_bytes(net[2])
    assert size_bytes(net[2].bfloat16()) < 500
