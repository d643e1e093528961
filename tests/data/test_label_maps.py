"""Pictures and their maps of labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen.data import LabelMaps
from kdgen.data.label_maps import IGNORED
from kdgen.types import UserError


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    """Three pictures in nested folders whose red says the raw value of each place, 7, 8 and 0, with maps of three kinds."""
    random = np.random.default_rng(0)
    for number, kind in enumerate(("L", "P", "I;16")):
        values = random.choice([0, 7, 8], (24 + number, 30)).astype(np.uint8)
        for folder, end in (("images", "_photo"), ("labels", "_ids")):
            place = tmp_path / folder / "town"
            place.mkdir(parents=True, exist_ok=True)
            if folder == "images":
                made = Image.fromarray(np.stack([values * 10, values, values], 2))
            elif kind == "P":
                made = Image.fromarray(values, "P")
                made.putpalette([255 - i // 3 for i in range(768)])
            else:
                made = Image.fromarray(values if kind == "L" else values.astype(np.uint16))
            made.save(place / f"{number}{end}.png")
    Image.new("RGB", (30, 24)).save(tmp_path / "labels" / "town" / "0_colour.png")
    return {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels"), "image_end": "_photo",
            "label_end": "_ids", "classes": ["road", "sidewalk"], "mapping": {"7": 0, "8": 1}}  # fmt: skip


def raw(x: torch.Tensor) -> torch.Tensor:
    """What the red of pictures says, as labels."""
    values = ((x[:, 0] + 1) * 127.5 / 10).round()
    return torch.where(values == 7, 0, torch.where(values == 8, 1, IGNORED)).long()


def test_pictures_and_maps_are_matched_by_name_and_cropped_at_one_place(folders: dict[str, Any]) -> None:
    source = LabelMaps(**folders)
    assert list(source.names) == ["town/0", "town/1", "town/2"]
    assert (source.num_classes, source.classes) == (2, ("road", "sidewalk"))
    x, y = source.mapped(20, 16, channels=3, seed=3)
    assert (x.shape, y.shape, y.dtype) == ((20, 3, 16, 16), (20, 16, 16), torch.int64)
    assert torch.equal(raw(x), y)
    assert torch.equal(x, source.patches(20, 16, channels=3, seed=3))
    for number, (_, picture, labels) in enumerate(source.whole_maps(3)):
        assert labels.shape == (1, 24 + number, 30)
        assert torch.equal(raw(picture), labels)


def test_a_patch_larger_than_the_picture_is_reflected_with_its_map(folders: dict[str, Any]) -> None:
    x, y = LabelMaps(**folders).mapped(4, 40, channels=3, seed=0)
    assert torch.equal(raw(x), y)


def test_shrunk_maps_take_the_nearest_place(tmp_path: Path, folders: dict[str, Any]) -> None:
    values = np.kron(np.array([[7, 8], [8, 0]]), np.ones((16, 16))).astype(np.uint8)
    for name, made in (("images", np.stack([values * 10] * 3, 2)), ("labels", values)):
        (tmp_path / "big" / name).mkdir(parents=True)
        Image.fromarray(made).save(tmp_path / "big" / name / "a.png")
    source = LabelMaps(str(tmp_path / "big/images"), str(tmp_path / "big/labels"), 2, {"7": 0, "8": 1}, scales=(0.5,))
    _, y = source.mapped(1, 16, channels=3, seed=0)
    assert y[0, ::8, ::8].tolist() == [[0, 1], [1, IGNORED]]


def test_values_are_labels_where_no_mapping_says_otherwise(folders: dict[str, Any]) -> None:
    plain = {key: value for key, value in folders.items() if key != "mapping"}
    labels = next(LabelMaps(**{**plain, "classes": 9, "ignore": 0}).whole_maps(1))[2]
    assert set(labels.unique().tolist()) == {7, 8, IGNORED}
    with pytest.raises(UserError, match=r"0_ids.png holds 8, and the labels of 2 classes go to 1: .* a mapping"):
        next(LabelMaps(**plain).whole_maps(1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": "nowhere"}, "there is no folder nowhere"),
        ({"label_end": "_trainIds"}, r"3 of 3 pictures in .* have no map of their name .* first is town/0"),
        ({"image_end": "_thermal"}, "say by image_end and label_end how names end"),
        ({"mapping": {"7": 2}}, "mapping gives class 2, and there are 2: the last is 1"),
        ({"mapping": {"road": 0}}, "mapping names 'road', and the values of a map are whole"),
        ({"classes": 0}, "classes is how many classes"),
        ({"classes": 300}, "classes is how many classes"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(folders: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        LabelMaps(**{**folders, **changes})
    assert "\n" not in str(error.value)


def test_maps_of_colours_and_of_another_size_are_refused(tmp_path: Path, folders: dict[str, Any]) -> None:
    for number in (1, 2):
        (tmp_path / "images" / "town" / f"{number}_photo.png").unlink()
    source = LabelMaps(**{**folders, "label_end": "_colour"})
    with pytest.raises(UserError, match=r"0_colour.png is of mode RGB, and a map has one number a place"):
        next(source.whole_maps(3))
    Image.new("L", (30, 23)).save(tmp_path / "labels" / "town" / "0_ids.png")
    with pytest.raises(UserError, match=r"town/0 is 30x24 and its map 30x23: give both the same size"):
        next(LabelMaps(**folders).whole_maps(3))


def test_the_fingerprint_changes_with_maps_and_what_their_values_mean(tmp_path: Path, folders: dict[str, Any]) -> None:
    before = LabelMaps(**folders).fingerprint()
    assert before == LabelMaps(**folders).fingerprint()
    assert before != LabelMaps(**{**folders, "mapping": {"7": 1, "8": 0}}).fingerprint()
    Image.new("L", (31, 24)).save(tmp_path / "labels" / "town" / "0_ids.png")
    assert before != LabelMaps(**folders).fingerprint()
