"""Pictures of an inspection, in folders and with a table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen.data.inspected import Findings, Inspected
from kdgen.types import UserError


def put(path: Path, level: int, *, fault: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8), level, np.uint8)
    pixels[2:4, 2:4] = 255 if fault else level
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for i in range(3):
        put(tmp_path / "train" / "good" / f"{i}.png", 100)
    put(tmp_path / "test" / "good" / "0.png", 100)
    for i in range(2):
        put(tmp_path / "test" / "scratch" / f"{i}.png", 100, fault=True)
        put(tmp_path / "ground_truth" / "scratch" / f"{i}_mask.png", 0, fault=True)
    return tmp_path


def test_folders_of_mvtec_are_trained_on_good_pictures_and_tested_with_masks(folders: Path) -> None:
    source = Inspected(str(folders))
    assert source.faulty == [False] * 3
    assert source.patches(4, 8, channels=1, seed=0).shape == (4, 1, 8, 8)
    tested = Inspected(str(folders), part="test")
    assert isinstance(tested, Findings)
    found = list(tested.findings(4, channels=3))
    assert [(each.name, each.faulty) for each in found] == [
        ("scratch/0.png", True), ("good/0.png", False), ("scratch/1.png", True)]  # fmt: skip
    assert found[0].image.shape == (1, 3, 4, 4)
    assert found[0].mask.nonzero().tolist() == [[0, 1, 1]]
    assert not found[1].mask.any()
    assert source.fingerprint() != tested.fingerprint()


def test_a_share_of_the_good_pictures_is_left_out_of_training_for_validation(folders: Path, tmp_path: Path) -> None:
    def names(part: str, **more: object) -> set[str]:
        return set(Inspected(str(folders), part=part, validation=1 / 3, **more).names)

    assert [len(names(part)) for part in ("train", "validation", "test")] == [2, 1, 3]
    assert names("train") | names("validation") == {"0.png", "1.png", "2.png"}
    assert {name for seed in range(8) for name in names("validation", seed=seed)} > names("validation")
    assert Inspected(str(folders), part="validation", validation=1.0).faulty == [False] * 3
    with pytest.raises(UserError, match="none of its pictures are in the part validation"):
        Inspected(str(folders), part="validation")
    (tmp_path / "labels.csv").write_text("".join(f"train/good/{i}.png 0\n" for i in range(3)) + "test/scratch/0.png 1")
    whole = {"held_out": 1 / 3, "validation": 1 / 2}
    parts = [Inspected(str(tmp_path), part=part, **whole) for part in ("train", "validation", "test")]
    assert [each.faulty for each in parts[:2]] == [[False], [False]]
    assert sorted(parts[2].faulty) == [False, True]
    assert len({name for each in parts for name in each.names}) == 4


def test_verdicts_are_told_without_reading_a_picture(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Inspected(str(folders), part="test")
    found = [each.faulty for each in source.findings(8, channels=1)]
    monkeypatch.setattr(Inspected, "picture", None)
    assert source.verdicts() == found == [True, False, True]


def test_a_fault_without_its_mask_is_told(folders: Path) -> None:
    (folders / "ground_truth" / "scratch" / "1_mask.png").unlink()
    with pytest.raises(UserError, match=r"scratch/1.png shows a fault and has no mask: put one at"):
        list(Inspected(str(folders), part="test").findings(8, channels=1))


@pytest.mark.parametrize("between", ["  ", ","])
def test_a_table_says_which_are_faulty_and_a_share_of_the_good_ones_is_held_out(tmp_path: Path, between: str) -> None:
    probabilities = [0.0] * 8 + [1 / 3, 2 / 3, 1.0]
    for i in range(len(probabilities)):
        put(tmp_path / "images" / f"{i:02}.png", 10 * i)
    lines = [between.join((f"images/{i:02}.png", str(each), "mono")) for i, each in enumerate(probabilities)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    parts = [Inspected(str(tmp_path), part=part, seed=seed) for seed in (0, 1) for part in ("train", "test")]
    for train, test in (parts[:2], parts[2:]):
        assert (len(train.names), len(test.names)) == (6, 4)
        assert not set(train.names) & set(test.names)
        assert {name for name, faulty in zip(test.names, test.faulty, strict=True) if faulty} == {
            "images/09.png", "images/10.png"}  # fmt: skip
    assert set(parts[0].names) != set(parts[2].names)
    levels = parts[0].patches(6, 8, channels=1, seed=3)[:, 0, 0, 0]
    assert sorted(((levels + 1) * 12.75).round().int().tolist()) == sorted(int(name[-6:-4]) for name in parts[0].names)
    assert next(parts[1].findings(8, channels=1)).mask is None
    assert "images/08.png" in Inspected(str(tmp_path), part="test", good=0.34, held_out=1.0).names
    assert torch.equal(parts[0].patches(2, 8, channels=1, seed=0), parts[0].patches(2, 8, channels=1, seed=0))


def test_other_layouts_and_tables_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither labels.csv nor a folder train/good: put good pictures into"):
        Inspected(str(tmp_path))
    put(tmp_path / "a.png", 1)
    (tmp_path / "labels.csv").write_text("name label\n")
    with pytest.raises(UserError, match="is no table of pictures: each line says a path and a probability"):
        Inspected(str(tmp_path))
    (tmp_path / "labels.csv").write_text("b.png 0\n")
    with pytest.raises(UserError, match="none of its pictures are in the part train"):
        Inspected(str(tmp_path))
