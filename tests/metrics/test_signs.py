"""What spoils students that draw, against values worked out by hand, and as it is told."""

import math

import pytest
import torch

from kdgen.metrics import Answers, SignWatch, beyond, signs, watched


def test_signs_of_known_images():
    grey = torch.linspace(-0.5, 0.5, 64).view(1, 1, 8, 8)
    assert signs(grey, grey) == {"saturation": 0.0, "contrast": 1.0}
    half = grey.clone()
    half[..., :4] = 1.0
    assert signs(half, grey)["saturation"] == 0.5
    assert signs(0.5 * grey, grey)["contrast"] == pytest.approx(0.5)
    assert all(map(math.isnan, signs(torch.full_like(grey, torch.nan), grey).values()))


def test_what_is_beyond_its_bounds_is_named_with_its_figure():
    assert beyond({"saturation": 0.05, "contrast": 1.0, "diversity_ratio": 1.0, "psnr": 1.0}) == {}
    out = beyond({"saturation": 0.4, "contrast": 0.5, "diversity_ratio": 0.2})
    assert "more of their values lie at black or white" in out["saturation"]
    assert "lose contrast: the" not in out["contrast"]
    assert "contrast 0.50, normally 0.8 to 1.25" in out["contrast"]
    assert "collapse" in out["diversity_ratio"]


def test_each_is_told_when_it_leaves_and_not_while_it_has_not_come_in():
    watch, fine = SignWatch(), Answers(count=4)
    assert watch.warnings({"contrast": 0.1}, fine, 0.1) == []
    assert watch.warnings({"contrast": 1.0}, fine, 0.2) == []
    assert len(watch.warnings({"contrast": 0.7}, fine, 0.3)) == 1
    assert watch.warnings({"contrast": 0.6}, fine, 0.4) == []
    assert watch.warnings({"contrast": 1.0}, fine, 0.5) == []
    assert len(watch.warnings({"contrast": 0.6, "saturation": 0.3}, fine, 0.6)) == 2
    assert watch.warnings({"contrast": None}, Answers(count=4, not_finite=1), 0.7) == [
        "it gives NaN or infinite values in 1 of 4 answers"
    ]


def test_answers_that_are_not_finite_are_counted_and_made_nan():
    net = torch.nn.Hardtanh(-9, 9)
    net.forward = lambda x: x.reciprocal()
    with watched(net) as seen:
        out = net(torch.tensor([[1.0, 2.0], [0.0, 1.0], [4.0, 0.0]]))
    assert (seen.count, seen.not_finite) == (3, 2)
    assert out.isnan().tolist() == [[False, False], [True, False], [False, True]]
    assert net(torch.zeros(1, 1)).isinf().all()
