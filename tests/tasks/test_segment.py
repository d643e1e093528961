"""The segmentation task: batches, loss, figures, teachers of other strides and classes, and runs from end to end."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support import drain
from torch import Tensor, nn

from kdgen.data.label_maps import IGNORED
from kdgen.data.pictures import to_tensor
from kdgen.export import export_model
from kdgen.models.model import load
from kdgen.recipe import Recipe, parse
from kdgen.report import sample_grids
from kdgen.report.evaluation import evaluate
from kdgen.report.report import Report
from kdgen.report.tiles import LINE
from kdgen.tasks import Segment
from kdgen.tasks.segment import Regrouped, labels_of
from kdgen.training import run
from kdgen.types import Batch, UserError
from kdgen.utils.palette import palette

LEVELS = torch.tensor([0, 100, 200])
"""What grey value shows which class."""


@pytest.fixture
def maps(tmp_path: Path) -> dict[str, Any]:
    """Two pictures of squares of three greys, with what each of them is; a stripe of the first one is ignored."""
    random = np.random.default_rng(0)
    for number, size in enumerate(((4, 5), (5, 4))):
        labels = np.kron(random.integers(0, 3, size), np.ones((8, 8))).astype(np.uint8)
        for folder, pixels in (("images", 100 * labels), ("labels", labels.copy())):
            if folder == "labels" and not number:
                pixels[:, :4] = IGNORED
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    args = {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels"), "classes": ["a", "b", "c"]}
    return {"name": "label_maps", "args": args}


class Grey(nn.Module):
    """Tells the three greys apart, at a stride of its own."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, stride: int = 1, order: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.stride, self.order = stride, order
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        levels = LEVELS[torch.tensor(self.order)] / 127.5 - 1
        distance = (x[:, :1] - levels.view(-1, 1, 1)).abs()
        return -self.gain * (F.avg_pool2d(distance, self.stride) if self.stride > 1 else distance)


def task(maps: dict[str, Any], **args: Any) -> Segment:
    return Segment(maps, channels=1, patch=16, **args)


@pytest.mark.parametrize("turn", ["none", "mirror", "all"])
def test_maps_follow_their_pictures_through_every_turn(maps: dict[str, Any], turn: Any) -> None:
    made = task(maps, turn=turn)
    for batch in islice(made.batches(batch_size=8, seed=0), 3):
        assert batch.y is not None
        shown = ((batch.x[:, 0] + 1) * 127.5 / 100).round().long()
        assert torch.equal(shown[batch.y != IGNORED], batch.y[batch.y != IGNORED])
    assert made.describe() == {"name": "segment", "num_classes": 3, "names": ["a", "b", "c"], "channels": 1}


def test_the_loss_is_cross_entropy_over_the_places_that_count(maps: dict[str, Any]) -> None:
    made = task(maps)
    logits = torch.randn(2, 3, 4, 4)
    y = torch.randint(3, (2, 4, 4))
    y[0, :2], y[1] = IGNORED, IGNORED
    nats = -logits.log_softmax(1).gather(1, y.clamp_max(2)[:, None])[:, 0]
    loss = made.loss(logits, Batch(x=torch.zeros(2, 1, 4, 4), y=y))
    assert loss is not None
    torch.testing.assert_close(loss, torch.stack([nats[0, 2:].mean(), torch.tensor(0.0)]))
    coarse = made.loss(logits, Batch(x=torch.zeros(2, 1, 8, 8), y=torch.randint(3, (2, 8, 8))))
    assert coarse is not None
    assert coarse.shape == (2,)
    assert made.loss(logits, Batch(x=torch.zeros(2, 1, 4, 4))) is None


def test_figures_against_maps_and_against_the_teacher(maps: dict[str, Any]) -> None:
    made = task(maps)
    assert made.evaluate(Grey()) == {"miou": 1, "dice": 1, "pixel_accuracy": 1, "boundary_f": 1}
    figures = made.evaluate(Grey(order=(1, 0, 2)), reference=Grey())
    assert figures["miou"] == pytest.approx(1 / 3), "the third class alone is right"
    assert figures["dice@teacher"] == pytest.approx(1 / 3)
    assert 0 < figures["agreement"] < 1
    assert "3 classes, those it was trained on" in made.describe_evaluation()


def test_without_maps_the_teacher_alone_measures(maps: dict[str, Any]) -> None:
    alone = Segment({"name": "folder", "args": {"path": maps["args"]["images"]}}, num_classes=3, channels=1, patch=16)
    assert alone.primary_metric == "miou@teacher"
    assert next(alone.batches(batch_size=2, seed=0)).y is None
    assert alone.evaluate(Grey(), reference=Grey(stride=2)).keys() == {"agreement", "miou@teacher", "dice@teacher"}
    assert alone.evaluate(net := Grey(), reference=net) == {}
    with pytest.raises(UserError, match="no maps of labels to measure against: name a teacher"):
        alone.evaluate(Grey())


def test_answers_at_any_stride_are_measured_at_the_size_of_the_image(maps: dict[str, Any]) -> None:
    assert task(maps).evaluate(Grey(stride=4))["pixel_accuracy"] > 0.8
    broken = Batch(x=torch.full((1, 1, 8, 8), torch.nan))
    assert labels_of(Grey(), broken).unique().tolist() == [-1]


def test_whole_images_are_shrunk_with_their_maps(maps: dict[str, Any]) -> None:
    (_, batch), _ = task(maps, longest_side=20).evaluation_images()
    assert batch.y is not None
    assert (batch.x.shape, batch.y.shape) == ((1, 1, 16, 20), (1, 16, 20))
    assert torch.equal(((batch.x[:, 0] + 1) * 127.5 / 100).round().long()[..., 2:], batch.y[..., 2:])


def test_a_teacher_of_other_classes_is_regrouped(maps: dict[str, Any]) -> None:
    logits = torch.randn(2, 5, 4, 4)
    regrouped = Regrouped(nn.Identity(), [[0, 3], 2])(logits)
    p = logits.softmax(1)
    torch.testing.assert_close(
        regrouped.exp()[:, 0] / regrouped.exp().sum(1), (p[:, 0] + p[:, 3]) / (p[:, 0] + p[:, 3] + p[:, 2])
    )
    made = task(maps, teacher_classes=[2, [1], 0])
    turned = Grey(order=(2, 1, 0))
    assert made.evaluate(made.guided(turned))["miou"] == 1
    assert task(maps).guided(turned) is turned
    with pytest.raises(UserError, match="names class 5, and the teacher has 5, from 0"):
        Regrouped(nn.Identity(), [5])(logits)
    with pytest.raises(UserError, match="teacher_classes has 2 entries and there are 3 classes"):
        task(maps, teacher_classes=[0, 1])


def test_labels_are_shown_in_colours_and_what_is_ignored_in_black(maps: dict[str, Any]) -> None:
    made = task(maps)
    shown = made.pictured(torch.tensor([[[0, 1], [2, IGNORED]]]))
    assert shown.shape == (1, 3, 2, 2)
    assert shown[0, :, 1, 1].tolist() == [-1, -1, -1]
    assert torch.equal(made.pictured(F.one_hot(torch.tensor([[[0, 1]]])).movedim(-1, 1))[0], shown[0, :, :1])


def test_a_sheet_ends_with_the_key_of_its_colours(maps: dict[str, Any], tmp_path: Path) -> None:
    made = task(maps)
    sample_grids.samples(tmp_path / "sheet.png", made, {"student": Grey()}, limit=1)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    strip = sheet[-LINE:].reshape(-1, 3)
    for colour in (palette(3) * 255).round().int().tolist():
        assert (strip == colour).all(1).sum() >= 200, "a square for each class"
    other = task(maps, names=["a", "b", "another"])
    sample_grids.samples(tmp_path / "other.png", other, {"student": Grey()}, limit=1)
    assert not np.array_equal(sheet, np.asarray(Image.open(tmp_path / "other.png").convert("RGB"))), "and its name"


def test_how_large_images_are_at_most_is_said_of_a_model(maps: dict[str, Any]) -> None:
    assert task(maps, longest_side=24).describe()["longest_side"] == 24


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "say how many classes there are, task.args.num_classes"),
        ({"num_classes": 2, "names": ["a", "b", "c"]}, "say 2, 3 classes: give all the same"),
        ({"num_classes": 256}, "num_classes is"),
        ({"num_classes": 2, "turn": "twice"}, "turn is one of none, mirror, all"),
        ({"num_classes": 2, "evaluate": {"name": "scenes"}}, "Scenes holds no whole images"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        Segment(**args)
    assert "\n" not in str(error.value)


SMALL = {"name": "segmenter", "args": {"widths": [4, 4], "blocks": 1, "stride": 2}}


def recipe(maps: dict[str, Any], methods: list[dict[str, Any]], **task_args: Any) -> Recipe:
    return parse(
        {
            "name": "parts",
            "task": {"name": "segment", "args": {"images": maps, "channels": 1, "patch": 16, **task_args}},
            "teacher": "the teacher",
            "student": SMALL,
            "stages": [{"methods": methods, "ratio": {"name": "fixed", "args": {"alpha": 0.9}}}],
            "steps": 6,
            "batch_size": 2,
            "cache": {"inputs": 8},
            "controls": False,
            "device": "cpu",
        }
    )


def test_a_run_from_a_teacher_of_another_stride_and_order(maps: dict[str, Any], tmp_path: Path) -> None:
    """Through logits, channels of logits and similarities of places; measured, pictured, saved, loaded and exported."""
    methods = [{"name": "logits"}, {"name": "channel", "args": {"of": "outputs"}}]
    made = recipe(maps, methods, teacher_classes=[2, 1, 0])
    drain(run.distill(made, tmp_path / "run", teacher=Grey(stride=2, order=(2, 1, 0))))
    report = Report.read(tmp_path / "run")
    rows = {row.role: row.metrics for row in report.rows}
    assert report.primary_metric == "miou"
    assert rows["teacher"]["pixel_accuracy"] > 0.9
    assert rows["student"].keys() >= {"miou", "dice", "boundary_f", "agreement", "miou@teacher"}
    assert (tmp_path / "run" / "samples.png").is_file()
    student = load(tmp_path / "run")
    assert student.task["names"] == ["a", "b", "c"]
    assert evaluate(tmp_path / "run", data=maps).metrics["miou"] == pytest.approx(rows["student"]["miou"])
    exported = export_model(student, tmp_path / "net.pt2", format="torch-export")
    assert exported.parity.max_abs_error <= 1e-4
    assert "a, b and c" in (tmp_path / "run" / "student" / "README.md").read_text(encoding="utf-8")


def test_a_run_without_labels_has_figures_of_the_teacher_alone(maps: dict[str, Any], tmp_path: Path) -> None:
    images = {"name": "folder", "args": {"path": maps["args"]["images"]}}
    teacher = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    made = recipe(images, [{"name": "logits"}, {"name": "pairwise"}], num_classes=3)
    drain(run.distill(made, tmp_path / "run", teacher=teacher))
    student = Report.read(tmp_path / "run").find("student")
    assert student is not None
    assert student.metrics.keys() == {"agreement", "miou@teacher", "dice@teacher"}


def test_a_teacher_of_more_classes_is_told_what_to_set(maps: dict[str, Any], tmp_path: Path) -> None:
    teacher = Grey(order=(0, 1, 2, 0))
    with pytest.raises(UserError, match=r"gives 4x16x16, and the task segment 3x16x16: set .*num_classes to 4"):
        drain(run.distill(recipe(maps, [{"name": "logits"}]), tmp_path / "run", teacher=teacher))


def test_pictures_of_a_file_are_read_as_the_maps_were(maps: dict[str, Any]) -> None:
    picture = np.asarray(Image.open(Path(maps["args"]["images"]) / "1.png"))
    labels = labels_of(Grey(), Batch(x=to_tensor(picture, 1)))
    assert np.array_equal(labels[0].numpy(), np.asarray(Image.open(Path(maps["args"]["labels"]) / "1.png")))
