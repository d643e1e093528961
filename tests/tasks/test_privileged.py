"""Teachers that know more than their students, through whole runs: several exposures, a map, an embedding."""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import drain
from torch import Tensor, nn

import kdgen
from kdgen import registry
from kdgen.data import Captioned
from kdgen.models.config import read_config
from kdgen.recipe import parse
from kdgen.registry import Spec
from kdgen.report.compare import Report
from kdgen.tasks import Views
from kdgen.training import run
from kdgen.types import UserError

SIZE, EACH = 16, 12
CLASSES = ("cold", "hot")
PHOTOGRAPH, WITH_MAP = [{"name": "channels"}], [{"name": "channels", "args": {"keep": [0, 1, 2, 3]}}]
NET = {"name": "feature_net", "args": {"width": 4}}


def one_exposure(count: int = 1) -> list[dict[str, Any]]:
    return [{"name": "exposures", "args": {"gains": [1.0] * count, "noise": 60}}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of patches, warm or cold in colour, with maps of how hot they are and what each says in numbers."""
    path, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    words: dict[str, Any] = {}
    for number, name in enumerate(CLASSES):
        for part in ("colour", "heat", "labels"):
            (path / part / name).mkdir(parents=True)
        for index in range(EACH):
            heat = np.full((SIZE, SIZE), 60.0 + 120 * number)
            tint = np.array([30.0, 0, -30]) * (2 * number - 1)
            pixels = (random.normal(128, 20, (SIZE, SIZE, 3)) + tint).clip(0, 255).astype(np.uint8)
            heat[:4, :4] = np.nan
            Image.fromarray(pixels).save(path / "colour" / name / f"{index}.png")
            np.save(path / "heat" / name / f"{index}.npy", heat)
            Image.fromarray(np.full((SIZE, SIZE), number, np.uint8)).save(path / "labels" / name / f"{index}.png")
            words[f"{name}/{index}.png"] = random.normal(4 * number - 2, 0.1, 3)
    np.savez(path / "words.npz", **words)
    return path


def photographs(folders: Path) -> dict[str, Any]:
    return {"name": "image_folder", "args": {"path": str(folders / "colour")}}


def stacks(folders: Path, **args: Any) -> dict[str, Any]:
    heat = {"name": "sensor", "args": {"path": str(folders / "heat"), "high": 255, "gaps": True}}
    return {"name": "aligned", "args": {"pictures": photographs(folders), "maps": [heat], **args}}


def classes(images: dict[str, Any], **args: Any) -> dict[str, Any]:
    return {"name": "classify", "args": {"images": images, "patch": SIZE, "num_images": 24, **args}}


def viewed(task: dict[str, Any], **views: Any) -> dict[str, Any]:
    return {"name": "views", "args": {"task": task, **views}}


def recipe(out: Path, task: dict[str, Any], *, steps: int = 6, teacher: str | None = None, **more: Any) -> Any:
    methods = [{"name": "logits"}] if teacher else []
    return parse({
        "name": "student", "task": task, "teacher": teacher, "student": NET, "stages": [{"methods": methods, "lr": 0.01}],
        "steps": steps, "batch_size": 8, "cache": {"inputs": 32, "dir": str(out / "cache")}, "device": "cpu",
        "evaluate_every": None, "precision": "float32", "controls": False, **more,
    })  # fmt: skip


def built(task: dict[str, Any]) -> Views:
    made: Views = registry.build("task", Spec.model_validate(task))
    return made


def accuracies(folder: Path, figure: str = "accuracy") -> dict[str, float]:
    return {row.role: row.metrics[figure] for row in Report.read(folder).rows}


def first_layer(folder: Path) -> torch.Size:
    net = kdgen.load(folder / "student").net
    return next(iter(net.parameters())).shape


def test_a_teacher_of_several_exposures_is_trained_on_stacks_and_teaches_a_student_of_one(
    folders: Path, tmp_path: Path
) -> None:
    inner = classes(photographs(folders))
    of_four = viewed(inner, student=one_exposure(4))
    drain(run.distill(recipe(tmp_path, of_four, steps=40), tmp_path / "teacher"))
    assert first_layer(tmp_path / "teacher")[1] == 12
    config = read_config(tmp_path / "teacher" / "student")
    assert (config.channels, config.task["channels"], config.task["view"]) == (12, 3, one_exposure(4))
    taught = viewed(inner, student=one_exposure(), teacher=one_exposure(4))
    task = built(taught)
    assert (task.channels, task.teacher_channels) == (3, 12)
    (batch,) = islice(task.batches(batch_size=4, seed=0), 1)
    assert batch.teacher_x is not None
    assert torch.equal(batch.x, batch.teacher_x[:, :3]), "the student's exposure is one of its teacher's"
    drain(run.distill(recipe(tmp_path, taught, teacher=str(tmp_path / "teacher")), tmp_path / "run"))
    found = accuracies(tmp_path / "run")
    assert found["teacher"] == accuracies(tmp_path / "teacher")["student"] > 0.9
    assert first_layer(tmp_path / "run")[1] == 3
    measured = kdgen.evaluate(str(tmp_path / "teacher" / "student"), data=folders / "colour")
    assert measured.metrics["accuracy"] > 0.9, "measured on stacks of ordinary photographs"


class Mean(nn.Module):
    """One image of several exposures."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, 3, *x.shape[2:]).mean(1)


def test_several_exposures_are_restored_to_one_image_and_have_no_baseline(folders: Path, tmp_path: Path) -> None:
    images = {"name": "folder", "args": {"path": str(folders / "colour")}}
    slight = [{"name": "noise", "args": {"sigma": 1}}]
    restore = {"name": "restore", "args": {"damages": slight, "images": images, "evaluate": images, "patch": SIZE}}
    task = built(viewed(restore, student=one_exposure(4)))
    (batch,) = islice(task.batches(batch_size=2, seed=0), 1)
    assert (batch.x.shape[1], task.answer_shape(batch)) == (12, (3, SIZE, SIZE))
    assert task.baseline(batch) is None
    same = recipe(tmp_path, viewed(restore, student=one_exposure(4)), student={"name": "dncnn", "args": {"width": 4}})
    with pytest.raises(UserError, match=r"gives 12x16x16, and the task views 3x16x16: set student to another$"):
        drain(run.distill(same, tmp_path / "same"))
    taught = viewed(restore, student=one_exposure(), teacher=one_exposure(4))
    small: dict[str, Any] = {
        "student": {"name": "dncnn", "args": {"width": 4, "depth": 3}},
        "stages": [{"methods": [{"name": "output"}]}],
    }
    plan = recipe(tmp_path, taught, teacher="mean", **small)
    drain(run.distill(plan, tmp_path / "run", teacher=Mean()))
    found = accuracies(tmp_path / "run", "psnr")
    assert found["teacher"] == pytest.approx(found["input"] + 6, abs=1), "a quarter of the variance"
    assert (tmp_path / "run" / "samples.png").is_file()


def test_a_teacher_that_reads_a_map_beside_the_photograph_teaches_a_student_that_reads_none(
    folders: Path, tmp_path: Path
) -> None:
    inner = classes(stacks(folders), channels=5)
    drain(run.distill(recipe(tmp_path, viewed(inner, student=WITH_MAP), steps=40), tmp_path / "teacher"))
    assert read_config(tmp_path / "teacher" / "student").channels == 4
    taught = viewed(inner, student=PHOTOGRAPH, teacher=WITH_MAP)
    drain(run.distill(recipe(tmp_path, taught, teacher=str(tmp_path / "teacher")), tmp_path / "run"))
    found = accuracies(tmp_path / "run")
    assert found["teacher"] > 0.9
    config = read_config(tmp_path / "run" / "student")
    assert (config.channels, config.task["channels"], "view" in config.task) == (3, 3, False)
    measured = kdgen.evaluate(str(tmp_path / "run" / "student"), data=folders / "colour")
    assert measured.metrics["accuracy"] == pytest.approx(found["student"], abs=0.1), "on photographs without maps"


class Thermometer(nn.Module):
    """Tells classes by a map alone, where it was read."""

    conditions = frozenset({"mask"})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        assert x.shape[1] == 1
        heat = (x * (1 - mask)).sum((1, 2, 3)) / (1 - mask).sum((1, 2, 3))
        return 20 * torch.stack([-heat, heat], 1)


def test_a_teacher_of_the_map_alone_is_told_what_is_missing(folders: Path, tmp_path: Path) -> None:
    view = [{"name": "channels", "args": {"keep": [3], "mask": 4}}]
    taught = viewed(classes(stacks(folders), channels=5), student=PHOTOGRAPH, teacher=view)
    (batch,) = islice(built(taught).batches(batch_size=4, seed=0), 1)
    assert ([*batch.cond], [*batch.for_teacher().cond]) == ([], ["mask"])
    drain(
        run.distill(recipe(tmp_path, taught, steps=60, teacher="thermometer"), tmp_path / "run", teacher=Thermometer())
    )
    found = accuracies(tmp_path / "run")
    assert found["teacher"] == 1
    assert found["student"] > 0.9, "the colour of a photograph is that of its map"


def test_segmenters_read_stacks_and_their_students_photographs(folders: Path, tmp_path: Path) -> None:
    images = {
        "name": "label_maps",
        "args": {"images": stacks(folders), "labels": str(folders / "labels"), "classes": 2},
    }
    segment = {"name": "segment", "args": {"images": images, "channels": 5, "patch": SIZE}}
    net = {"name": "segmenter", "args": {"channels": 4, "classes": 2}}
    teacher = recipe(tmp_path, viewed(segment, student=WITH_MAP), student=net)
    drain(run.distill(teacher, tmp_path / "teacher"))
    taught = viewed(segment, student=PHOTOGRAPH, teacher=WITH_MAP)
    small = {**net, "args": {"channels": 3, "classes": 2}}
    drain(run.distill(recipe(tmp_path, taught, teacher=str(tmp_path / "teacher"), student=small), tmp_path / "run"))
    assert accuracies(tmp_path / "run", "miou").keys() == {"teacher", "student"}
    assert (tmp_path / "run" / "samples.png").is_file()
    with pytest.raises(UserError, match=r"the teacher.* does not take the images of the task views, 5x16x16"):
        drain(run.distill(recipe(tmp_path, viewed(segment), teacher=str(tmp_path / "teacher")), tmp_path / "wrong"))


class Reader(nn.Module):
    """Tells classes by what it is told of a picture alone."""

    conditions = frozenset({"embedding"})

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        said = embedding.mean(1)
        return 4 * torch.stack([-said, said], 1)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_student_learns_from_images_what_its_teacher_reads_of_them(
    folders: Path, tmp_path: Path, wrapped: bool
) -> None:
    source = {"name": "aligned", "args": {"pictures": photographs(folders), "embeddings": str(folders / "words.npz")}}
    task = viewed(classes(source), student=["grey"]) if wrapped else classes(source)
    (batch,) = islice(registry.build("task", Spec.model_validate(task)).batches(batch_size=6, seed=0), 1)
    assert batch.y is not None
    asked = batch.for_teacher()
    assert asked.cond["embedding"].shape == (6, 3)
    assert torch.equal(asked.cond["embedding"].mean(1) > 0, batch.y > 0)
    drain(run.distill(recipe(tmp_path, task, steps=60, teacher="reader"), tmp_path / "run", teacher=Reader()))
    found = accuracies(tmp_path / "run")
    assert found["teacher"] == 1
    assert wrapped or found["student"] > 0.9
    said = Report.read(tmp_path / "run").find("student")
    assert said is not None
    assert "agreement" in said.metrics
    words: dict[str, Any] = {**np.load(folders / "words.npz")}
    np.savez(tmp_path / "other.npz", **dict(zip(words, reversed(words.values()), strict=True)))
    misled = json.loads(json.dumps(task).replace(str(folders / "words.npz"), str(tmp_path / "other.npz")))
    inner = built(misled)
    assert inner.evaluate(Reader(), reference=None)["accuracy"] == 0, "it is the embedding that it reads"


@registry.register("net")
class WordsAndImage(nn.Module):
    """A net of a user's that reads what the words of a picture say, ``(B, L, D)``, beside the picture."""

    def __init__(self, classes: int = 2, width: int = 96) -> None:
        super().__init__()
        self.image, self.words = nn.Conv2d(3, 4, 3), nn.Linear(width, 4)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        read = self.image(x).mean((2, 3)), self.words(embedding).mean(1)
        logits: Tensor = self.head(torch.cat(read, 1))
        return logits


def test_captions_through_the_encoder_of_a_pipeline_train_a_teacher_whose_student_is_told_none(
    folders: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="text encoders need it: pip install 'kdgen[text]'")
    where, captions = tmp_path / "captioned", {"cold": "blue ice", "hot": "red fire"}
    where.mkdir()
    for name in CLASSES:
        (where / name).symlink_to(folders / "colour" / name)
    lines = [{"file_name": f"{name}/{i}.png", "text": captions[name]} for name in CLASSES for i in range(EACH)]
    (where / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pictures = Captioned(str(where))
    embedded: Any = kdgen.load("emoji").net
    words: dict[str, Any] = dict(zip(pictures.names, embedded.embed(pictures.captions)["words"].numpy(), strict=True))
    np.savez(tmp_path / "words.npz", **words)
    source = {"name": "aligned", "args": {"pictures": photographs(folders), "embeddings": str(tmp_path / "words.npz")}}
    reader = recipe(tmp_path, classes(source), steps=40, student={"name": "words_and_image", "args": {}})
    drain(run.distill(reader, tmp_path / "teacher"))
    drain(run.distill(recipe(tmp_path, classes(source), steps=40, teacher=str(tmp_path / "teacher")), tmp_path / "run"))
    found = accuracies(tmp_path / "run")
    assert found["teacher"] == 1
    assert found["student"] > 0.9
    measured = kdgen.evaluate(str(tmp_path / "run" / "student"), data=where)
    assert measured.metrics["accuracy"] == pytest.approx(found["student"], abs=0.1), "without a word"


def test_what_the_pages_say_of_these_teachers_works(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page, part in (("photos", "colour"), ("depth", "heat"), ("labels", "labels"), ("words.npz", "words.npz")):
        (tmp_path / page).symlink_to(folders / part)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    ours = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "photos/" in block]
    assert [each["name"] for each in ours] == ["burst", "single", "views", "views", "classify"]
    for each in ours:
        if "task" in each:
            short = {"steps": 2, "batch_size": 4, "device": "cpu", "evaluate_every": None, "controls": False}
            cache = {"inputs": 8, "dir": str(tmp_path / "cache")}
            drain(run.distill(parse({**each, **short, "cache": cache}), Path("runs") / each["name"]))
        else:
            next(registry.build("task", Spec.model_validate(each)).batches(batch_size=2, seed=0))


def test_mixed_images_have_no_embedding(folders: Path) -> None:
    source = {"name": "aligned", "args": {"pictures": photographs(folders), "embeddings": str(folders / "words.npz")}}
    with pytest.raises(UserError, match="of two mixed images neither embedding is right"):
        built(classes(source, mix="mixup"))


def test_a_net_of_the_wrong_channels_and_a_missing_channel_are_refused(folders: Path, tmp_path: Path) -> None:
    inner = classes(stacks(folders), channels=5)
    view = [{"name": "channels", "args": {"keep": [0, 5]}}]
    plan = recipe(tmp_path, viewed(inner, student=view))
    with pytest.raises(UserError, match=r"channels: there is no channel 5, the images have 5, from 0"):
        drain(run.distill(plan, tmp_path / "index"))
    with pytest.raises(UserError, match=r"have 5 channels, and the task 4: set task\.args\.channels to 5"):
        built(viewed(classes(stacks(folders), channels=4), student=PHOTOGRAPH)).evaluate(Thermometer())
    chained = viewed(inner, student=PHOTOGRAPH, teacher=WITH_MAP)
    plan = recipe(tmp_path, chained, teacher="any", assistants=[{"student": NET}])
    teacher = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UserError, match="leave assistants out"):
        drain(run.distill(plan, tmp_path / "chain", teacher=teacher))
