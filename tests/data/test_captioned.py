"""Pictures with captions, as `datasets` lays them out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdgen.data import Captioned
from kdgen.data.captioned import is_told
from kdgen.registry import Spec, build
from kdgen.types import UserError

SAID = {"a.png": "red heart", "deep/b.png": "blue heart", "c.png": "red heart"}


def write(folder: Path, lines: list[str]) -> None:
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def line(name: str, said: str) -> str:
    return json.dumps({"file_name": name, "text": said, "licence": "Apache-2.0"})


@pytest.fixture
def hearts(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name, said in SAID.items():
        colour = (255, 0, 0) if "red" in said else (0, 0, 255)
        Image.fromarray(np.full((6, 8, 3), colour, np.uint8)).save(tmp_path / name)
    write(tmp_path, [line(name, said) for name, said in reversed(SAID.items())])
    return tmp_path


def test_captions_are_in_the_order_of_the_pictures(hearts: Path) -> None:
    source = build("images", Spec(name="captioned", args={"path": str(hearts)}))
    assert is_told(source)
    assert dict(zip(source.names, source.captions, strict=True)) == SAID
    pictures = torch.cat(list(source.whole_pictures(8, channels=3)))
    assert pictures.shape == (3, 3, 8, 8)
    assert [picture[2, 4, 4] > 0 for picture in pictures] == ["blue" in said for said in source.captions]
    before = source.fingerprint()
    write(hearts, [line(name, f"{said} suit") for name, said in SAID.items()])
    assert Captioned(str(hearts)).fingerprint() != before


def test_captions_that_are_missing_are_counted_in_a_line(hearts: Path) -> None:
    write(hearts, [line("a.png", "red heart"), line("c.png", " ")])
    with pytest.raises(UserError, match=r"^2 of the 3 pictures in .* have no caption .*, the first is c\.png: add"):
        Captioned(str(hearts))


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (None, r"metadata\.jsonl is missing or no text: captions lie there"),
        (['{"file_name": "a.png"', ""], r"^line 1 of .*metadata\.jsonl is no caption: write"),
        (["", '["a.png", "red heart"]'], r"^line 2 of .* is no caption"),
        ([line("a.png", "red"), '{"file_name": "c.png", "text": 3}'], r"^line 2 of .* is no caption"),
        ([line(name, said) for name, said in {**SAID, "d.png": "star"}.items()], r"^1 of .* the first is d\.png"),
    ],
)  # fmt: skip
def test_a_damaged_list_of_captions_is_refused_in_a_line(hearts: Path, lines: list[str] | None, complaint: str) -> None:
    if lines is None:
        (hearts / "metadata.jsonl").unlink()
    else:
        write(hearts, lines)
    with pytest.raises(UserError, match=complaint) as refused:
        Captioned(str(hearts))
    assert "\n" not in str(refused.value)
