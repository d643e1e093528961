"""What nets can do beside being called: who has which ability, and what merely bears its name."""

import pytest
import torch
from torch import nn

import kdgen.models.adapters
import kdgen.models.nets  # noqa: F401 - registers nets
from kdgen.models import abilities
from kdgen.models.adapters.module import Half
from kdgen.models.nets.fold import folded
from kdgen.registry import Spec, build
from kdgen.tasks.latents import decoded, encoded
from kdgen.types import UserError
from kdgen.utils.hooks import hookable_layers

X = torch.rand(2, 1, 8, 8) * 2 - 1
ALL = {name for name in abilities.__all__ if name[0].isupper()}


def abilities_of(net: nn.Module) -> set[str]:
    return {name for name in ALL if isinstance(net, getattr(abilities, name))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dncnn", {"Conditioned", "Folding", "Layered", "Predicting", "Specified"}),
        ("vae", {"Autoencoder", "Channelled", "Conditioned", "Decoding", "Encoding", "Halved", "Latent", "Layered"}),
        ("unet2d", {"Channelled", "Conditioned", "Generating", "Inheriting", "Layered", "Predicting", "Sampled",
                    "Scheduled", "Stored"}),
        ("dit", {"Adopting", "Channelled", "Conditioned", "Generating", "Guided", "Inheriting", "Latent", "Layered",
                 "Predicting", "Sampled", "Scheduled", "Shaped", "Stored"}),
        ("autoencoder_kl", {"Adopting", "Autoencoder", "Channelled", "Conditioned", "Decoding", "Encoding", "Halved",
                            "Inheriting", "Latent", "Layered", "Stored"}),
    ],
)  # fmt: skip
def test_nets_have_the_abilities_that_they_show(name: str, expected: set[str]) -> None:
    assert abilities_of(build("net", Spec(name=name))) == expected


def test_a_plain_module_has_none() -> None:
    assert abilities_of(nn.Sequential(nn.Conv2d(1, 1, 1))) == set()


class Modules(nn.Module):
    """An autoencoder whose halves are modules within, not methods."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Sequential(nn.AvgPool2d(2)), nn.Upsample(scale_factor=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a half is called")


def test_halves_may_be_modules_within() -> None:
    net, z = Modules(), X[..., ::2, ::2]
    assert torch.equal(Half(net, "encoder")(X), net.encode(X))
    assert torch.equal(Half(net, "decoder")(z), net.decode(z))
    assert torch.equal(encoded(net, X), net.encode(X))
    assert torch.equal(decoded(net, z), net.decode(z))


def test_what_bears_the_name_of_an_ability_and_cannot_be_called_is_none() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)).eval()
    net.folded, net.feature_layers, net.encode = False, ("0",), "utf-8"  # type: ignore[assignment]
    assert hookable_layers(net) == ["0", "1"]
    assert torch.allclose(folded(net)(X), net(X), atol=1e-6)
    assert torch.equal(encoded(net, X), net(X).detach())
    with pytest.raises(UserError, match="no half of this kind"):
        Half(net, "encoder")
