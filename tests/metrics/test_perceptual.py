"""Perceptual distances against published weights and direct computations, and what is made of them."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdgen.data import Photographs, read_picture, to_tensor
from kdgen.metrics import mean_pairwise_distance, perceptual, sharpness, sharpness_ratio
from kdgen.metrics.perceptual import FeatureDistance, ShiftTolerantLpips
from kdgen.models.nets.feature_net import feature_net
from kdgen.types import UserError


@pytest.fixture
def distance():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FeatureDistance("perceptual_stub", feature_net(width=4).eval())


@pytest.fixture(scope="module")
def photographs():
    return torch.cat([x[..., 60:92, 80:112] for _, x in Photographs().images(3)])


@pytest.fixture(scope="module")
def published(shared_data):
    return shared_data / "st-lpips-alex" / "alex_shift_tolerant.pth"


def test_distance_is_that_of_the_formula(distance, photographs):
    def unit(vector):
        return vector / vector.norm() if vector.any() else vector

    a, b = photographs[:2], photographs[2:4]
    expected = []
    for i in range(2):
        layers = []
        for p, q in zip(distance.net.maps(a[i : i + 1]), distance.net.maps(b[i : i + 1]), strict=True):
            places = [
                (unit(p[0, :, y, x]) - unit(q[0, :, y, x])).square().sum()
                for y in range(p.shape[2])
                for x in range(p.shape[3])
            ]
            layers.append(torch.stack(places).mean())
        expected.append(torch.stack(layers).mean())
    assert torch.allclose(distance(a, b), torch.stack(expected), rtol=1e-4)
    assert torch.equal(distance(a, a), torch.zeros(2))
    assert torch.allclose(distance(a, b), distance(b, a))


def test_distance_is_a_loss(distance, photographs):
    a = (photographs + 0.3 * torch.randn(photographs.shape)).requires_grad_()
    optimizer = torch.optim.Adam([a], lr=0.02)
    distance.train()
    assert not any(module.training for module in distance.modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    before = distance(a, photographs).mean().item()
    for _ in range(10):
        optimizer.zero_grad()
        distance(a, photographs).mean().backward()
        optimizer.step()
    assert distance(a, photographs).mean().item() < 0.7 * before
    flat = torch.zeros(1, 3, 16, 16, requires_grad=True)
    distance(flat, flat.detach()).sum().backward()
    assert flat.grad.isfinite().all()


def test_grey_images_are_repeated(distance, photographs):
    a, b = photographs.mean(1, keepdim=True), photographs.flip(0).mean(1, keepdim=True)
    assert torch.equal(distance(a, b), distance(a.repeat(1, 3, 1, 1), b.repeat(1, 3, 1, 1)))


def test_features32_are_the_shipped_net(monkeypatch):
    net = feature_net(width=4)
    monkeypatch.setattr(sys.modules["kdgen.metrics.perceptual"], "load", lambda name: SimpleNamespace(net=net))
    assert perceptual().net is net
    assert perceptual("features32").name == "perceptual_features32"


def test_shift_tolerant_lpips_gives_its_known_values(published, shared_data):
    distance = perceptual(published)
    path = shared_data / "sr-sets" / "Set5" / "HR" / "butterfly.png"
    image = to_tensor(read_picture(path), 3)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    for sigma, expected in {5: 0.010, 15: 0.131, 25: 0.285, 50: 0.575, 75: 0.710}.items():
        noisy = (image + 2 * sigma / 255 * noise).clamp(-1, 1)
        assert distance(noisy, image).item() == pytest.approx(expected, rel=0.03, abs=0.001)


def test_shift_tolerant_lpips_tolerates_shifts(published):
    distance = perceptual(published)
    image = next(Photographs().images(3))[1]
    moved, still = image[..., 1:129, 1:129], image[..., :128, :128]
    noisy = still + 0.2 * torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    assert distance(moved, still).item() < 0.1 * distance(noisy, still).item()
    noisy.requires_grad_()
    distance(noisy, still).sum().backward()
    assert noisy.grad.isfinite().all()
    assert noisy.grad.abs().sum() > 0


def test_what_cannot_be_is_said(published, tmp_path):
    with pytest.raises(UserError, match="no perceptual distance 'features64'"):
        perceptual("features64")
    half = tmp_path / "half.pth"
    half.write_bytes(published.read_bytes()[:100_000])
    with pytest.raises(UserError, match="does not hold the weights"):
        perceptual(half)
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold the weights"):
        perceptual(tmp_path / "other.pth")
    with pytest.raises(UserError, match="21 pixels a side and more, not 21x20"):
        ShiftTolerantLpips()(torch.zeros(1, 3, 21, 20), torch.zeros(1, 3, 21, 20))
    assert ShiftTolerantLpips()(torch.zeros(1, 3, 21, 21), torch.zeros(1, 3, 21, 21)).shape == (1,)


def test_mean_pairwise_distance_is_that_of_all_pairs(distance, photographs):
    pairs = torch.combinations(torch.arange(len(photographs)))
    expected = distance(photographs[pairs[:, 0]], photographs[pairs[:, 1]]).mean().item()
    ours = mean_pairwise_distance(photographs, distance=distance)
    assert ours == pytest.approx(expected, rel=1e-5)
    many = photographs.repeat(60, 1, 1, 1)  # several calls of the net; of its pairs some are of equal images
    unlike = (len(photographs) - 1) * 60 / (len(many) - 1)
    assert mean_pairwise_distance(many, distance=distance) == pytest.approx(unlike * expected, rel=1e-5)
    same = photographs[:1].repeat(5, 1, 1, 1)
    assert mean_pairwise_distance(same, distance=distance) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="needs two"):
        mean_pairwise_distance(photographs[:1], distance=distance)


def test_sharpness_ratio_is_over_the_set(photographs):
    assert sharpness_ratio(photographs, photographs) == 1
    assert sharpness_ratio(photographs / 2, photographs) == pytest.approx(0.25)
    one = photographs[:1]
    assert sharpness_ratio(one / 3, one) == pytest.approx(sharpness(one / 3, one).item())
    assert sharpness_ratio(nn.functional.avg_pool2d(photographs, 3, 1, 1), photographs) < 0.9
    several = sharpness_ratio(photographs.repeat(50, 1, 1, 1), photographs)
    assert several == pytest.approx(1)
