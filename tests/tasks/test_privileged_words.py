"""Teachers that are told of images what their students are not, through whole runs: an embedding."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from privileged import CLASSES, EACH, accuracies, built, classes, photographs, pictured, recipe, viewed
from support import drain
from torch import Tensor, nn

import kdgen
from kdgen import registry
from kdgen.data import Captioned
from kdgen.registry import Spec
from kdgen.report.compare import Report
from kdgen.training import run
from kdgen.types import UserError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictured(tmp_path_factory.mktemp("pictures"))


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


def test_mixed_images_have_no_embedding(folders: Path) -> None:
    source = {"name": "aligned", "args": {"pictures": photographs(folders), "embeddings": str(folders / "words.npz")}}
    with pytest.raises(UserError, match="of two mixed images neither embedding is right"):
        built(classes(source, mix="mixup"))
