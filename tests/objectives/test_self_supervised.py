"""What a net learns from images alone: numbers worked out by hand, and a stage of it before the transfer."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import call, trained
from torch import Tensor, nn

from kdgen.data import dihedral
from kdgen.objectives.masked import Masked
from kdgen.objectives.rotation import QUARTERS, Rotation
from kdgen.objectives.two_views import TwoViews
from kdgen.recipe import Recipe, parse
from kdgen.training import run
from kdgen.types import Batch, LossInputs, UserError

Make = Callable[..., Recipe]


class Classifier(nn.Module):
    """Maps, then their mean, then logits."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.maps(x)).mean((2, 3)))
        return out


class Restorer(nn.Module):
    """Gives the image that it is shown back."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def batch() -> Batch:
    return Batch(x=torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(7)) * 2 - 1)


def inputs(net: nn.Module, batch: Batch) -> LossInputs:
    return LossInputs(batch=batch, student_features={}, student_net=net)


def test_as_many_patches_of_each_image_are_masked_and_they_alone_count(batch: Batch) -> None:
    masked = Masked(patch=3, share=0.5)
    torch.manual_seed(1)
    hidden = masked.mask(torch.zeros(5, 1, 9, 9))
    assert hidden.unfold(2, 3, 3).unfold(3, 3, 3).flatten(4).float().std(4).max() == 0
    assert hidden.sum((1, 2, 3)).tolist() == [4 * 9] * 5
    masked.attach(Restorer(), batch)
    torch.manual_seed(1)
    hidden = masked.mask(batch.x)
    torch.manual_seed(1)
    loss = masked.loss(inputs(Restorer(), batch))
    mean = batch.x.mean((2, 3), keepdim=True)
    assert loss.tolist() == pytest.approx([
        (image - average).abs()[where].mean().item()
        for image, average, where in zip(batch.x, mean, hidden, strict=True)
    ])  # fmt: skip
    assert not list(masked.parameters())


def test_a_classifier_reconstructs_by_a_decoder_of_the_terms_own(batch: Batch) -> None:
    masked = Masked()
    masked.attach(Classifier(), batch)
    assert masked.layer == "maps"
    assert masked.decoder(torch.zeros(4, 6, 4, 4)).shape == batch.x.shape
    with pytest.raises(UserError, match=r"reads a layer that gives \(B, D, H, W\), and 'head' does not"):
        Masked(layer="head").attach(Classifier(), batch)


def test_rotations_are_quarter_turns_and_a_classifier_that_knows_nothing_has_the_log_of_four(batch: Batch) -> None:
    for number, how in enumerate(QUARTERS):
        assert torch.equal(dihedral(batch.x, how), torch.rot90(batch.x, number, (2, 3)))
    rotation, net = Rotation(), Classifier()
    rotation.attach(net, batch)
    assert rotation.layer == "maps"
    nn.init.zeros_(rotation.classifier.weight)
    nn.init.zeros_(rotation.classifier.bias)
    assert rotation.loss(inputs(net, batch)).tolist() == pytest.approx([math.log(4)] * 4)
    with pytest.raises(UserError, match="turns square images"):
        Rotation().attach(net, Batch(x=torch.zeros(2, 1, 8, 6)))


def test_two_views_holds_collapsed_features_apart_by_their_variance(batch: Batch) -> None:
    views, net = TwoViews(size=5), Classifier()
    views.attach(net, batch)
    for parameter in views.embedding.parameters():
        nn.init.zeros_(parameter)
    assert views.loss(inputs(net, batch)).tolist() == pytest.approx([25 * 2 * (1 - 0.01)] * 4)
    with pytest.raises(UserError, match="batches of 2 square images or more"):
        views.attach(net, Batch(x=torch.zeros(1, 1, 8, 8)))


def test_two_views_move_what_is_told_of_places_and_leave_the_colours_of_maps() -> None:
    shown = list[tuple[Tensor, Tensor]]()

    class Told(nn.Module):
        def forward(self, x: Tensor, mask: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
            shown.append((x, mask))
            assert sigma.shape == (len(x),)
            assert torch.equal(text, words[torch.arange(len(x)) % 4])
            return x[:, :, ::2, ::2]

    torch.manual_seed(0)
    x = torch.rand(4, 4, 16, 16) * 2 - 1
    mask = torch.zeros(4, 1, 16, 16)
    mask[..., :5, :8] = 1
    x[:, 3:] = 4 * mask - 1
    words = torch.rand(4, 16, 16)
    batch = Batch(x=x, cond={"mask": mask, "sigma": torch.ones(4), "text": words})
    views, net = TwoViews(layer="", size=5), Told()
    views.attach(net, batch)
    shown.clear()
    views.loss(inputs(net, batch))
    ((seen, told),) = shown
    assert not torch.equal(told[:4], told[4:]), "told of where it is in each view"
    assert torch.equal(told, (seen[:, 3:] > -1 + 1e-4).float())
    assert seen[:, 3].amax() > 2.9, "a map has no colour"


def test_a_stage_of_images_alone_comes_before_the_transfer(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdgen.training.trainer.REPORT_EVERY", 0)
    stages = [
        {"name": "alone", "truth": False, "objectives": [{"name": "masked"}]},
        {"name": "transfer", "methods": [{"name": "output"}]},
    ]
    recipe = parse({**make("steps=6").model_dump(mode="json"), "stages": stages})
    steps = [event.data for event in trained(run.distill(recipe, tmp_path / "run")) if event.kind == "step"]
    assert "own_masked" in steps[0]
    assert "task" not in steps[0]
    assert "output" in steps[-1]
    assert "own_masked" not in steps[-1]
    assert recipe.guided(truth=True)
    beside = {"name": "beside", "truth": False, "objectives": [{"name": "rotation"}],
              "methods": [{"name": "output"}], "ratio": {"name": "fixed", "args": {"alpha": 0.5}}}  # fmt: skip
    recipe = parse({**recipe.model_dump(mode="json"), "stages": [beside]})
    terms = next(event.data for event in run.distill(recipe, tmp_path / "beside") if event.kind == "step")
    assert {"own_rotation", "output"} < terms.keys()
    assert "task" not in terms


def test_a_stage_of_nothing_is_refused_in_a_line(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {**make().model_dump(mode="json"), "stages": [{"truth": False}]}
    (tmp_path / "r.json").write_text(json.dumps(data))
    assert call("distill", str(tmp_path / "r.json"), "--out", str(tmp_path / "run")) == 2
    assert "a stage without truth has methods or objectives to learn from" in capsys.readouterr().err
