"""Labelled pictures by folder, in grey and colour."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen.data import Arrays, Folder, ImageFolder, shuffled
from kdgen.registry import Spec, build
from kdgen.types import UserError

COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def put(path: Path, colour: tuple[int, ...], *, count: int = 2) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.full((6, 8, len(colour)), colour, np.uint8).squeeze()).save(path / f"{i}.png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        put(tmp_path / name / "deep", colour)
    return tmp_path


def test_colour_pictures_have_the_class_of_their_folder_and_come_once_each(pets: Path) -> None:
    source = build("images", Spec(name="image_folder", args={"path": str(pets)}))
    assert (source.classes, source.num_classes, source.num_labelled) == (["cat", "dog", "owl"], 3, 6)
    x, y = source.labelled(6, 8, channels=3, seed=1)
    assert x.shape == (6, 3, 8, 8)
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2]
    assert torch.equal(x[:, :, 4, 4].argmax(1), y)
    assert source.labelled(2, 8, channels=1, seed=1)[0].shape == (2, 1, 8, 8)


def test_folders_that_are_numbers_are_labels_and_a_list_settles_the_order(pets: Path, tmp_path: Path) -> None:
    for name in ("2", "10"):
        put(tmp_path / "digits" / name, (128,))
    digits = ImageFolder(str(tmp_path / "digits"))
    assert digits.num_classes == 11
    assert set(digits.labels.tolist()) == {2, 10}
    reversed_ = ImageFolder(str(pets), classes=["owl", "dog", "cat", "eel", "digits"])
    assert set(reversed_.labels.tolist()) >= {0, 1, 2}
    assert reversed_.num_classes == 5


def test_pictures_of_no_class_are_refused(pets: Path) -> None:
    with pytest.raises(UserError, match=r"owl in .* is no class"):
        ImageFolder(str(pets), classes=["cat", "dog"])
    put(pets, (1, 2, 3), count=1)
    with pytest.raises(UserError, match=r"0\.png lies in .* itself"):
        ImageFolder(str(pets))


def test_a_damaged_picture_is_replaced_by_one_of_its_class(pets: Path) -> None:
    source = ImageFolder(str(pets), max_gib=1e-9)
    data = (pets / "dog" / "deep" / "0.png").read_bytes()
    (pets / "dog" / "deep" / "0.png").write_bytes(data[:-30])
    with pytest.warns(UserWarning, match="skipped"):
        x, y = source.labelled(6, 8, channels=3, seed=0)
    assert torch.equal(x[:, :, 4, 4].argmax(1), y)


def test_whole_pictures_of_a_folder_come_once_before_any_comes_twice(pets: Path) -> None:
    drawn = Folder(str(pets), whole=True).patches(6, 8, channels=3, seed=0)
    assert [int((drawn[:, :, 4, 4].argmax(1) == k).sum()) for k in range(3)] == [2, 2, 2]
    assert sorted(Folder(str(pets)).labelled(6, 8, channels=3, seed=0)[1].tolist()) == list(range(6))
    twice = shuffled(5, 12, torch.Generator().manual_seed(0)).bincount()
    assert twice.min() == 2
    assert twice.max() == 3


def test_arrays_may_have_labels() -> None:
    images = [np.full((4, 4, 3), level, np.uint8) for level in (0, 255)]
    x, y = Arrays(images, labels=[1, 0]).labelled(4, 4, channels=3, seed=0)
    assert torch.equal(x.mean((1, 2, 3)).sign(), torch.where(y == 0, 1.0, -1.0))
    with pytest.raises(UserError, match="one number from 0 up for each of 2"):
        Arrays(images, labels=[1])
    with pytest.raises(UserError, match="no labels"):
        Arrays(images).labelled(1, 4, channels=3, seed=0)


def test_a_split_is_a_folder_of_classes_within_the_folder(pets: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name, colour in COLOURS.items():
            put(tmp_path / "split" / split / name, colour, count=1 + (split == "train"))
    assert ImageFolder(str(tmp_path / "split"), split="test").num_labelled == 3
    assert ImageFolder(str(tmp_path / "split"), split="train").classes == ["cat", "dog", "owl"]
    with pytest.raises(UserError, match="holds the splits test, train: name one of these"):
        ImageFolder(str(tmp_path / "split"))


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_labels_are_read_from_a_table_beside_the_pictures(kind: str, tmp_path: Path) -> None:
    put(tmp_path, (9,), count=3)
    rows = [("0.png", "owl"), ("1.png", "cat"), ("2.png", "owl")]
    lines = [f'{{"file_name": "{name}", "label": "{label}"}}' for name, label in rows] if kind == "jsonl" else \
        ["file_name,label", *(f"{name},{label}" for name, label in rows)]  # fmt: skip
    table = tmp_path / f"metadata.{kind}"
    table.write_text("\n".join(lines))
    source = ImageFolder(str(tmp_path))
    assert (source.classes, source.labels.tolist()) == (["cat", "owl"], [1, 0, 1])
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match=r"2\.png in .* has no label in the metadata"):
        ImageFolder(str(tmp_path))
    if kind == "jsonl":
        table.write_text("{")
        with pytest.raises(UserError, match="cannot be read"):
            ImageFolder(str(tmp_path))
