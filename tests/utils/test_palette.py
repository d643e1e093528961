"""Colours of classes."""

import torch
from torch import Tensor

from kdgen.utils.palette import class_names, palette

SEEN = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What is left of linear light: Machado et al. 2009, "A Physiologically-based Model for Simulation of Color Vision
Deficiency", table 1, severity 1."""

TO_XYZ = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = torch.tensor([0.9505, 1.0, 1.089])


def lab(linear: Tensor) -> Tensor:
    """CIE L*a*b* of linear RGB ``(K, 3)``."""
    share = linear.clamp(0, 1) @ TO_XYZ.T / WHITE
    f = torch.where(share > (6 / 29) ** 3, share.clamp_min(1e-9) ** (1 / 3), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def linear(colours: Tensor) -> Tensor:
    return torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def test_no_two_classes_have_one_colour_and_none_is_black() -> None:
    octets = (palette(255) * 255).round().int()
    assert octets.shape == (255, 3)
    assert len(octets.unique(dim=0)) == 255
    assert octets.sum(1).min() > 20
    assert torch.equal(palette(3), palette(255)[:3]), "of as many classes as there are"


def test_the_first_class_is_quiet() -> None:
    first = palette(1)[0]
    assert first.max() - first.min() < 0.1, "no colour"
    assert first.max() < 0.4, "and dark"


def test_the_first_eight_are_told_apart_with_any_colour_vision() -> None:
    light = linear(palette(8))
    for matrix in (torch.eye(3), *map(torch.tensor, SEEN.values())):
        seen = lab(light @ matrix.T)
        apart = torch.cdist(seen, seen) + 1e3 * torch.eye(8)
        assert apart.min() > 10, "in CIE 1976 differences, of which 2.3 is just noticed"


def test_classes_without_a_name_have_a_number() -> None:
    assert class_names({"names": ["sky", ""]}, 3) == ["sky", "1", "2"]
    assert class_names({}, 2) == ["0", "1"]
