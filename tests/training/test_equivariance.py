"""Whether what a teacher says turns with its input: measured on nets that do, that do not, and that are bundled."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.models.model import load
from kdgen.registry import Spec, build
from kdgen.tasks import Autoencode, Denoise
from kdgen.training.equivariance import BOUND, HOPELESS, Equivariance, measured
from kdgen.types import Batch, UserError


def batch(seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    y = F.interpolate(torch.randn(8, 1, 8, 8), scale_factor=3, mode="bilinear")
    return Batch(x=y + 0.2 * torch.randn_like(y), y=y)


def blur(view: Batch) -> Tensor:
    return F.avg_pool2d(F.pad(view.x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def test_a_symmetric_filter_turns_and_what_acts_on_single_pixels_is_cropped_too() -> None:
    assert measured(blur, batch(), turn=True, crop=None).turns
    found = measured(lambda view: 0.9 * view.x, batch(), turn=True, crop=16)
    assert (found.turns, found.crops) == (True, True)
    assert found.notes[0].startswith("The teacher's cached answers were flipped and rotated with their inputs")


def test_the_error_is_a_share_of_the_teachers_own() -> None:
    """A teacher that adds some light and the ramp of columns: turned, the ramp lies otherwise."""
    data = batch()
    ramp = torch.linspace(-1, 1, 24).expand(1, 1, 24, 24)
    assert data.y is not None
    own, light, difference = 0.1, 2.5, 0.0
    for k in range(1, 8):
        turned = ramp if k in (2,) else -ramp if k in (1, 3) else ramp.mT * (1 if k in (4, 6) else -1)
        difference += (turned - ramp).square().mean().item() / 7
    wanted = difference / (ramp + light).square().mean().item()

    def answer(view: Batch) -> Tensor:
        assert view.y is not None
        return view.y + own * (ramp + light)

    found = measured(answer, data, turn=True, crop=None)
    assert f"{100 * wanted:.0f} % of its own squared error" in found.notes[0]
    assert BOUND.own < wanted < HOPELESS * BOUND.own
    assert not found.turns


def test_of_a_teacher_that_is_far_off_no_more_is_asked() -> None:
    asked = []

    def answer(view: Batch) -> Tensor:
        asked.append(len(view.x))
        return view.x.roll(3, -1)

    assert not measured(answer, batch(), turn=True, crop=None).turns
    assert asked == [8, 8]


def test_without_truth_the_spread_of_the_output_is_what_counts() -> None:
    data = Batch(x=batch().x)
    assert measured(blur, data, turn=True, crop=None).turns
    found = measured(lambda view: view.x.roll(1, -1), data, turn=True, crop=None)
    assert not found.turns
    assert f"of the variance of its output, where {100 * BOUND.spread:g} % is the most" in found.notes[0]


def test_what_looks_at_the_whole_image_is_not_cropped() -> None:
    found = measured(lambda view: blur(view) - view.x.mean((2, 3), keepdim=True), batch(), turn=True, crop=12)
    assert (found.turns, found.crops) == (True, False)


def test_an_answer_of_another_shape_than_the_crops_does_not_follow() -> None:
    found = measured(lambda view: F.interpolate(view.x, (9, 9)), batch(), turn=False, crop=16)
    assert found == Equivariance(turns=True, crops=False, notes=found.notes)


def test_a_crop_that_the_teacher_does_not_take_is_refused() -> None:
    with pytest.raises(UserError, match=r"takes no crops of 10x10 .* set cache\.crop"):
        measured(lambda view: view.x.unflatten(-1, (-1, 4)).flatten(-2), batch(), turn=False, crop=10)


def test_the_bundled_denoiser_turns_within_its_error_and_the_autoencoder_does_not() -> None:
    images = {"name": "photographs", "args": {}}
    denoise: Denoise = build("task", Spec(name="denoise", args={"sigma": 25, "patch": 48, "images": images}))
    autoencode: Autoencode = build("task", Spec(name="autoencode", args={"images": images}))
    found = []
    for task, name in ((denoise, "denoiser"), (autoencode, "vae")):
        net = load(name).net
        probe = next(task.batches(batch_size=8, seed=0))
        found.append(measured(lambda view, net=net: net(view.x, **view.cond), probe, turn=True, crop=None))
    assert [each.turns for each in found] == [True, False]
