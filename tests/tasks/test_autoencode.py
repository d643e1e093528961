"""Autoencoders, their decoders and their encoders: batches, truth and figures."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdgen.data import Folder, Idx
from kdgen.metrics import Extractor, psnr
from kdgen.metrics.perceptual import FeatureDistance
from kdgen.models.adapters import Half
from kdgen.models.model import Model
from kdgen.registry import Spec, build, register
from kdgen.tasks import Autoencode, Decode, Encode
from kdgen.types import UserError

PHOTOS = {"images": {"name": "photographs"}, "num_images": 60}


@register("net")
class PooledAutoencoder(nn.Module):
    """Latents are the means of 4x4 pixels, times a gain, and as many logarithms of variances; no learning needed."""

    latent_channels = 3

    def __init__(self, channels=3, gain=2.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def encode(self, x):
        z = self.gain * F.avg_pool2d(x, 4)
        return torch.cat([z, z - 5], 1)

    def decode(self, z):
        assert z.shape[1] == 3
        return F.interpolate(z / 2, scale_factor=4)

    def forward(self, x, **cond):
        return self.decode(self.encode(x)[:, :3])


class Part(nn.Module):
    """One half of it."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x, **cond):
        return self.call(x)


class SmallFeatures(nn.Module):
    """A stand-in for the features that ship with the package."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)

    def maps(self, x):
        return [self.conv(x)]

    def features(self, x):
        return self.conv(x).mean((2, 3))


@pytest.fixture(autouse=True)
def features(monkeypatch):
    torch.manual_seed(0)
    net = SmallFeatures()
    monkeypatch.setattr("kdgen.tasks.drawing.extractor", lambda name: Extractor(name, net, net.features))
    monkeypatch.setattr("kdgen.tasks.drawing.perceptual", lambda name: FeatureDistance(name, net))


@pytest.fixture
def vae(tmp_path):
    net = PooledAutoencoder()
    Model(net, name="pooled", channels=3, use=Spec(name="pooled_autoencoder")).save(tmp_path / "vae")
    return str(tmp_path / "vae")


def take(task, count, start=0, seed=0):
    return list(islice(task.batches(batch_size=4, seed=seed, start=start), count))


def pooled(y):
    return F.interpolate(F.avg_pool2d(y, 4), scale_factor=4)


def test_batches_depend_on_seed_and_number_alone(vae, monkeypatch):
    monkeypatch.setattr("kdgen.tasks.autoencode.BLOCK_PIXELS", 3 * 4 * 16**2)
    for name, args in (("autoencode", {}), ("decode", {"encoder": vae}), ("encode", {"decoder": vae})):
        task = build("task", Spec(name=name, args={**args, "patch": 16, "images": {"name": "photographs"}}))
        eight = take(task, 8)
        assert all(torch.equal(a.x, b.x) for a, b in zip(eight[4:], take(task, 4, start=4), strict=True))
        assert len({batch.x.sum().item() for batch in [*eight, *take(task, 1, seed=1)]}) == 9
        assert not any(batch.x.is_inference() for batch in eight)
        assert task.resample_noise(eight[0], seed=1) is eight[0]
        assert (task.primary_metric, task.taught_primary_metric, task.channels) == ("psnr", "psnr@teacher", 3)


def test_each_part_sees_its_input_and_its_truth(vae):
    (whole,) = take(Autoencode(patch=16, **PHOTOS), 1)
    (half,) = take(Decode(vae, patch=16, **PHOTOS), 1)
    (other,) = take(Encode(vae, patch=16, **PHOTOS), 1)
    assert whole.x is whole.y
    assert whole.x.shape == (4, 3, 16, 16)
    assert torch.equal(half.y, whole.y)
    assert torch.allclose(half.x, 2 * F.avg_pool2d(half.y, 4))
    assert torch.equal(other.x, whole.y)
    assert other.y is None
    assert Encode(vae, **PHOTOS).loss(half.x, other) is None
    assert Autoencode(**PHOTOS).equivariant
    assert not Decode(vae, **PHOTOS).equivariant
    assert Decode(vae, patch=16, **PHOTOS).example().x.shape == (1, 3, 4, 4)
    assert Decode(vae, patch=16, **PHOTOS).describe()["latent"] == [3, 4, 4]
    assert Decode(vae, **PHOTOS).fingerprint() != Autoencode(**PHOTOS).fingerprint()


def test_losses_are_per_image():
    (batch,) = take(Autoencode(patch=8, **PHOTOS), 1)
    gaps = torch.tensor([0.0, 0.1, -0.2, 1.0])[:, None, None, None]
    for name, expected in {
        "l1": [0, 0.1, 0.2, 1],
        "l2": [0, 0.01, 0.04, 1],
        "charbonnier": [1e-3, 0.100005, 0.2000025, 1.0000005],
    }.items():
        loss = Autoencode(loss=name, **PHOTOS).loss(batch.y + gaps, batch)
        assert torch.allclose(loss, torch.tensor(expected), atol=1e-6)


def test_reconstructions_are_measured_against_images_and_teacher(vae):
    task = Autoencode(patch=32, **PHOTOS)
    net, teacher = PooledAutoencoder(gain=1.8), PooledAutoencoder()
    figures = task.evaluate(teacher)
    drawn = task.draw(teacher, num_images=60, seed=0)
    truth = task.draw(nn.Identity(), num_images=60, seed=0)
    assert torch.allclose(drawn, pooled(truth), atol=1e-6)
    assert figures["psnr"] == pytest.approx(psnr(drawn, truth).mean().item())
    assert figures["sharpness"] < 1
    assert set(figures) == {"psnr", "ssim", "perceptual", "sharpness", "diversity", "vendi"}
    assert task.evaluate(teacher, reference=teacher) == figures
    beside = task.evaluate(net, reference=teacher)
    assert beside["psnr"] < figures["psnr"]
    assert beside["psnr@teacher"] == pytest.approx(psnr(0.9 * drawn, drawn).mean().item(), abs=1e-3)
    assert {"ssim@teacher", "perceptual@teacher", "sharpness@teacher"} < set(beside)
    assert beside["sharpness@teacher"] == pytest.approx(0.9**2, rel=1e-4)
    perfect = task.evaluate(nn.Identity(), limit=10)
    assert perfect["psnr"] == 100
    assert perfect["perceptual"] == pytest.approx(0, abs=1e-6)


def test_distributions_are_compared_where_there_are_enough(vae):
    task = Autoencode(patch=16, images={"name": "photographs"}, num_images=250)
    same, blurred = task.evaluate(nn.Identity()), task.evaluate(PooledAutoencoder())
    assert same["fd_features32"] == pytest.approx(0, abs=1e-6)
    assert blurred["fd_features32"] > same["fd_features32"]
    assert same["sharpness"] == pytest.approx(1)
    assert blurred["diversity"] != same["diversity"]
    beside = task.evaluate(nn.Identity(), reference=PooledAutoencoder())
    assert beside["fd_features32@teacher"] == pytest.approx(blurred["fd_features32"])
    assert beside["precision@teacher"] == pytest.approx(blurred["recall"])


def test_halves_agree_with_the_whole(vae):
    whole, teacher = Autoencode(patch=32, **PHOTOS), PooledAutoencoder()
    decoder, encoder = Part(teacher.decode), Part(teacher.encode)
    expected = whole.evaluate(teacher)
    assert Decode(vae, patch=32, **PHOTOS).evaluate(decoder) == pytest.approx(expected)
    task = Encode(vae, patch=32, **PHOTOS)
    assert task.evaluate(encoder) == pytest.approx(expected)
    figures = task.evaluate(Part(lambda x: 0.9 * teacher.encode(x)), reference=encoder)
    assert figures["psnr@teacher"] > 20


def apart(y, gain):
    """The squared error of means that are ``gain`` times what they should be as a share of the variance."""
    z = 2 * F.avg_pool2d(y, 4)
    return ((1 - gain) ** 2 * z.square().mean() / z.var((0, 2, 3), unbiased=False).mean()).item()


@pytest.mark.parametrize("whole", [False, True])
def test_halves_are_measured_in_the_place_of_the_teachers(whole):
    task = Autoencode(patch=32, whole=whole, images={"name": "photographs"}, num_images=20)
    teacher, net = PooledAutoencoder(), PooledAutoencoder(gain=1.8)
    figures = task.evaluate(net, reference=teacher, limit=2)
    images = list(task.whole_images(2)) if whole else [task._real(2, 0)]
    if not whole:
        assert figures["latent_error"] == pytest.approx(apart(images[0], 0.9), rel=1e-4)
    said = torch.cat([psnr(0.9 * pooled(y), pooled(y)) for y in images]).mean()
    assert figures["psnr_teacher_decoder"] == pytest.approx(said.item(), abs=1e-3)
    assert figures["psnr_student_decoder"] == 100
    assert "each decoder on the other's latents" in task.describe_evaluation(reference=teacher)
    for other in (None, teacher, nn.Identity()):
        assert "latent_error" not in task.evaluate(teacher, reference=other, limit=2)
    assert "decoder" not in task.describe_evaluation(reference=nn.Identity())


def test_latents_of_another_shape_cannot_be_exchanged():
    task, grey = Autoencode(patch=32, **PHOTOS), PooledAutoencoder()
    grey.latent_channels, grey.decode = 2, lambda z: F.interpolate(z[:, :1].expand(-1, 3, -1, -1) / 2, scale_factor=4)
    assert not {"latent_error", "psnr_student_decoder"} & set(
        task.evaluate(grey, reference=PooledAutoencoder(), limit=2)
    )


def test_errors_of_means_do_not_hide_behind_logarithms_of_variances(vae):
    task, teacher = Encode(vae, patch=32, **PHOTOS), PooledAutoencoder()
    known = Half(teacher, "encoder")

    class Wrong(PooledAutoencoder):
        def encode(self, x):
            z, logarithms = super().encode(x).chunk(2, 1)
            return torch.cat([0.5 * z, logarithms], 1)

    figures = task.evaluate(Half(Wrong(), "encoder"), reference=known)
    assert figures["latent_error"] == pytest.approx(apart(task._real(60, 0), 0.5), rel=1e-4)


def test_whole_images_are_cut_to_what_the_nets_take(vae):
    task = Decode(vae, whole=True, multiple=24, **PHOTOS)
    sizes = [tuple(y.shape[-2:]) for y in task.whole_images()]
    assert sizes[0] == (240, 240)
    assert all(extent % 24 == 0 for size in sizes for extent in size)
    teacher = PooledAutoencoder()
    figures = task.evaluate(Part(teacher.decode), reference=Part(teacher.decode), limit=2)
    assert set(figures) == {"psnr", "ssim", "sharpness", "psnr@teacher", "ssim@teacher"}
    assert figures["psnr@teacher"] == 100
    first, second = islice(task.whole_images(), 2)
    expected = sum(psnr(pooled(y), y).item() for y in (first, second)) / 2
    assert figures["psnr"] == pytest.approx(expected, abs=1e-3)
    assert Encode(vae, whole=True, **PHOTOS).evaluate(Part(teacher.encode), limit=1)["psnr"] > 15
    with pytest.raises(UserError, match="smaller than 512"):
        Autoencode(whole=True, multiple=512, **PHOTOS).evaluate(teacher)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"channels": 2}, "channels is"),
        ({"patch": 0}, "patch is"),
        ({"multiple": 0}, "multiple is"),
        ({"num_images": True}, "num_images is"),
        ({"loss": "l3"}, "l1"),
        ({"images": {"name": "foldr"}}, "folder"),
        ({"evaluate": {"name": "dead_leaves"}, "whole": True}, "whole images"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(args, words):
    with pytest.raises(UserError, match=words) as error:
        Autoencode(**args)
    assert "\n" not in str(error.value)


class TwoLayers(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inward = nn.Conv2d(channels, 12, 4, stride=4)
        self.outward = nn.ConvTranspose2d(12, channels, 4, stride=4)

    def forward(self, x, **cond):
        return self.outward(self.inward(x))


@pytest.mark.parametrize("name", ["clothes", "emoji"])
def test_a_small_autoencoder_learns(name, shared_data):
    source = {
        "clothes": lambda: Idx(str(shared_data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz")),
        "emoji": lambda: Folder(str(shared_data / "emoji-noto"), whole=True, max_gib=0.01),
    }[name]()
    channels = 1 if name == "clothes" else 3
    task = Autoencode(source, channels, 32, evaluate=source, num_images=100, loss="l2")
    torch.manual_seed(0)
    net = TwoLayers(channels)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    before = task.evaluate(net)["psnr"]
    for batch in islice(task.batches(batch_size=16, seed=0), 60):
        loss = task.loss(net(batch.x), batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert task.evaluate(net)["psnr"] > before + 4
