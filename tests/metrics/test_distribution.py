"""Distances of distributions against independent computations, and which way they move on real images."""

import gzip
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdgen.metrics import (
    Gaussian,
    density_coverage,
    digest,
    distances,
    frechet_distance,
    kernel_distance,
    precision_recall,
    sharpness_ratio,
    vendi_score,
)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def sets():
    mix = drawn(12, 12, seed=1) / 3
    return drawn(200, 12, seed=2) @ mix + 0.3, drawn(150, 12, seed=3).relu()


def test_frechet_distance_is_that_of_torchmetrics(sets):
    from torchmetrics.image.fid import FrechetInceptionDistance

    flat = nn.Flatten()
    flat.num_features = 12
    theirs = FrechetInceptionDistance(feature=flat, normalize=True)
    for features, real in zip(sets, (False, True), strict=True):
        theirs.update(features.view(-1, 3, 2, 2), real=real)
    assert frechet_distance(*sets) == pytest.approx(theirs.compute().item(), rel=1e-3)
    assert frechet_distance(*sets) == pytest.approx(frechet_distance(*reversed(sets)), rel=1e-9)


def test_frechet_distance_of_diagonal_gaussians():
    (m, n), (s, t) = drawn(2, 9, seed=4), drawn(2, 9, seed=5).abs()
    a, b = (Gaussian(mean=x, covariance=y.square().diag(), count=99) for x, y in ((m, s), (n, t)))
    closed = (m - n).square().sum() + (s - t).square().sum()
    assert frechet_distance(a, b) == pytest.approx(closed.item(), rel=1e-9)


def test_frechet_distance_of_singular_covariances():
    few = drawn(10, 64)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few, few + 1) == pytest.approx(64, rel=1e-9)
    assert frechet_distance(few, 3 * few) == pytest.approx(
        4 * (few.mean(0).square().sum() + few.var(0).sum()).item(), rel=1e-6
    )
    still = few[:1].expand(10, -1)
    assert frechet_distance(still, few) == pytest.approx(
        (few[0] - few.mean(0)).square().sum().item() + few.var(0).sum().item(), rel=1e-9
    )


def test_statistics_can_be_kept(sets):
    kept = Gaussian.of(sets[1])
    assert frechet_distance(sets[0], kept) == frechet_distance(*sets)
    assert torch.allclose(kept.covariance, sets[1].T.cov())
    assert kept.count == 150
    assert digest(kept) == digest(sets[1]) == digest(sets[1].clone())
    assert len({digest(sets[0]), digest(sets[1]), digest(sets[1][:-1]), digest(sets[1] + 1e-3)}) == 4


def test_kernel_distance_is_the_double_sum(sets):
    a, b = (x[:40].tolist() for x in sets)

    def kernel(x, y):
        return (sum(i * j for i, j in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def within(x):
        return sum(kernel(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if i != j) / (len(x) * (len(x) - 1))

    between = sum(kernel(p, q) for p in a for q in b) / (len(a) * len(b))
    expected = within(a) + within(b) - 2 * between
    assert kernel_distance(sets[0][:40], sets[1][:40]) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_subsets_is_seeded_and_unbiased(sets):
    whole = kernel_distance(*sets)
    some = kernel_distance(*sets, subset_size=50)
    assert some == kernel_distance(*sets, subset_size=50)
    assert some != kernel_distance(*sets, subset_size=50, seed=1)
    assert some == pytest.approx(whole, rel=0.1)
    with pytest.raises(ValueError, match="larger sample"):
        kernel_distance(*sets, subset_size=180)


def test_kernel_distance_is_that_of_torchmetrics(sets):
    from torchmetrics.image.kid import poly_mmd

    a, b = (x[:150] for x in sets)
    assert kernel_distance(a, b) == pytest.approx(poly_mmd(a, b).item(), rel=1e-9)


def test_inception_figures_are_those_of_torch_fidelity():
    fid = pytest.importorskip("torch_fidelity.metric_fid", reason="torch-fidelity is not installed")
    kid = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity is not installed")
    ours, theirs = drawn(1200, 16, seed=6).float(), drawn(1100, 16, seed=7).float().relu()
    figures = distances(ours, theirs, name="inception")
    statistics = [fid.fid_features_to_statistics(x) for x in (ours, theirs)]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert figures["fid"] == pytest.approx(expected, rel=1e-6)
    expected = kid.kid_features_to_metric(ours, theirs, verbose=False)["kernel_inception_distance_mean"]
    assert figures["kid"] == pytest.approx(expected, rel=1e-4)


def test_neighbourhoods_are_those_of_a_direct_loop():
    ours, theirs = drawn(40, 5, seed=8) * 0.7 + 0.3, drawn(50, 5, seed=9)

    def radius(point, among, k):
        return sorted(math.dist(point, other) for other in among)[k]

    def inside(points, centres, k):
        radii = [radius(c, centres, k) for c in centres]
        return np.array([[math.dist(p, c) < r for c, r in zip(centres, radii, strict=True)] for p in points])

    a, b = ours.tolist(), theirs.tolist()
    assert precision_recall(ours, theirs) == pytest.approx(
        (inside(a, b, 3).any(1).mean(), inside(b, a, 3).any(1).mean())
    )
    assert precision_recall(ours, theirs, k=1) != precision_recall(ours, theirs)
    balls = inside(a, b, 5)
    assert density_coverage(ours, theirs) == pytest.approx((balls.sum() / 5 / 40, balls.any(0).mean()))
    with pytest.raises(ValueError, match="more than 5"):
        density_coverage(ours, theirs[:5])


def test_many_rows_are_taken_in_parts(sets, monkeypatch):
    whole = distances(*sets, name="x")
    monkeypatch.setattr("kdgen.metrics.distribution.ROWS", 7)
    assert distances(*sets, name="x") == pytest.approx(whole)


def test_a_set_is_at_no_distance_from_itself(sets):
    for features in sets:
        figures = distances(features, features.clone(), name="net")
        assert list(figures) == ["fd_net", "kd_net", "precision", "recall", "density", "coverage"]
        assert figures["fd_net"] == pytest.approx(0, abs=1e-9)
        assert -0.3 < figures["kd_net"] <= 0
        assert (figures["precision"], figures["recall"], figures["coverage"]) == (1, 1, 1)
        assert figures["density"] == pytest.approx(1, abs=0.02)


def test_features_that_are_no_numbers_give_no_figures(sets):
    spoilt = sets[0].clone()
    spoilt[3, 2] = math.nan
    figures = distances(spoilt, sets[1], name="net")
    assert math.isnan(figures["fd_net"])
    assert math.isnan(figures["kd_net"])
    assert math.isnan(vendi_score(spoilt))
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(sets[0][:1], sets[1])


def test_vendi_counts_unlike_features():
    assert vendi_score(drawn(1, 8).expand(10, -1)) == pytest.approx(1)
    assert vendi_score(3 * torch.eye(7)) == pytest.approx(7)
    assert vendi_score(torch.eye(7).repeat(3, 1)) == pytest.approx(7)
    wide, tall = drawn(20, 50), drawn(50, 20)
    for x in (wide, tall):
        unit = x / x.norm(dim=1, keepdim=True)
        values = np.linalg.eigvalsh((unit @ unit.T / len(x)).numpy())
        values = values[values > 1e-12]
        assert vendi_score(x) == pytest.approx(np.exp(-(values * np.log(values)).sum()))


@pytest.fixture(scope="module")
def clothes(shared_data):
    """800 images and 800 others of Fashion-MNIST, the classes of the former, and a fixed random net."""

    def idx(name, start, shape):
        data = gzip.decompress((shared_data / "fashion-mnist" / name).read_bytes())
        return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())

    images = idx("t10k-images-idx3-ubyte.gz", 16, (-1, 1, 28, 28))[:1600] / 127.5 - 1
    labels = idx("t10k-labels-idx1-ubyte.gz", 8, -1)[:800]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 16, 3, 2, 1),
            nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        ).requires_grad_(False)  # fmt: skip
    return images[:800], images[800:], labels, net


def blur(x, sigma):
    place = torch.arange(-4, 5.0)
    line = (-(place**2) / (2 * sigma**2)).exp()
    kernel = torch.outer(line, line)
    return F.conv2d(F.pad(x, (4, 4, 4, 4), mode="replicate"), (kernel / kernel.sum())[None, None])


def test_figures_move_the_right_way_on_real_images(clothes):
    images, others, labels, net = clothes
    reference = net(others)

    def figures(x):
        return distances(net(x), reference, name="net") | {
            "vendi": vendi_score(net(x)),
            "sharp": sharpness_ratio(x, others),
        }

    fine = figures(images)
    assert min(fine[key] for key in ("precision", "recall", "coverage")) > 0.5
    assert fine["sharp"] == pytest.approx(1, abs=0.05)
    damage = drawn(*images.shape, seed=3).float()
    noisy = [figures((images + sigma * damage).clamp(-1, 1)) for sigma in (0.1, 0.3)]
    blurred = [figures(blur(images, sigma)) for sigma in (0.8, 1.6)]
    for worse, falling in ((noisy, ("precision", "density")), (blurred, ("recall", "vendi"))):
        for key in ("fd_net", "kd_net"):
            assert fine[key] < worse[0][key] < worse[1][key]
        for key in (*falling, "coverage"):
            assert fine[key] > worse[0][key] > worse[1][key]
    assert 1 > blurred[0]["sharp"] > blurred[1]["sharp"]
    assert fine["sharp"] < noisy[0]["sharp"] < noisy[1]["sharp"]
    dropped = [figures(images[labels < classes].repeat(3, 1, 1, 1)[:400]) for classes in (5, 2)]
    whole = figures(images[:400])
    for key in ("fd_net", "kd_net"):
        assert whole[key] < dropped[0][key] < dropped[1][key]
    for key in ("recall", "coverage", "vendi"):
        assert whole[key] > dropped[0][key] > dropped[1][key]
    assert dropped[1]["precision"] > 0.9 * whole["precision"]
