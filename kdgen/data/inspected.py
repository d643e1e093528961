"""Pictures of an inspection: good ones to learn from, and good and faulty ones to be told apart."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from kdgen.data.folder import Folder, read_picture
from kdgen.data.jitter import Amounts
from kdgen.data.pictures import to_tensor
from kdgen.data.whole import framed
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.types.arguments import Share
from kdgen.utils.references import FilePath
from kdgen.utils.seed import generator

TABLE, GOOD = "labels.csv", "good"

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A picture that somebody looked at.

    Attributes:
        name: of the picture.
        image: ``(1, C, size, size)`` in [-1, 1].
        faulty: whether it shows a fault.
        mask: where, ``(1, size, size)`` bool; None where nobody said.
    """

    name: str
    image: Tensor
    faulty: bool
    mask: Tensor | None = None


@runtime_checkable
class Findings(Protocol):
    """A source that knows which of its pictures show faults."""

    def findings(self, size: int, channels: int) -> Iterator[Finding]:
        """All pictures, whole, in a square of ``size``: a faulty one first, good ones in between as long as any are."""
        ...

    def verdicts(self) -> Sequence[bool]:
        """Which of them are faulty, in that order, without a look at any."""
        ...


@register("images")
class Inspected(Folder):
    """Pictures of an inspection, in the layout of MVTec AD or with a table beside them.

    MVTec AD's is `train/good/` to train on, `test/good/` and `test/FAULT/` to test on, and where faults are marked
    `ground_truth/FAULT/NAME_mask.png`. A table `labels.csv` has a line for each picture: its path in the folder, and
    how probably it is faulty, from 0 to 1, with commas or spaces between.

    Args:
        path: the folder.
        part: ``train``, good pictures alone; ``validation``, the share of these that is not trained on; or ``test``,
            the other good ones and all faulty ones.
        good: of a table: pictures of at most this probability are good.
        faulty: of a table: pictures of at least this probability are faulty; those in between are left out.
        held_out: of a table: the share of its good pictures, drawn at random, that is in ``test``.
        validation: the share of the good pictures to train on that is left out and in ``validation``, drawn at random.
        seed: of these draws.
        max_gib, jitter: as for ``folder``.

    Attributes:
        faulty: which pictures show a fault, in the order of ``names``.

    Raises:
        UserError: for another layout, a table of something else, a part without pictures, and what ``folder`` refuses.
    """

    def __init__(
        self,
        path: FilePath,
        part: Part = "train",
        good: Share = 0.0,
        faulty: Share = 0.5,
        held_out: Share = 0.25,
        validation: Share = 0.0,
        seed: int = 0,
        max_gib: float = 1.0,
        jitter: Amounts | None = None,
    ) -> None:
        root = Path(path).expanduser()
        self.marks = root / "ground_truth"
        table = root / TABLE
        if not root.is_dir():
            raise UserError(text("no_image_folder", "there is no folder {path}: give the path of a folder of images",
                                 path=root))  # fmt: skip
        inside = root if table.is_file() else root / "test" if part == "test" else root / "train" / GOOD
        if not inside.is_dir():
            raise UserError(text("no_inspection", "{path} holds neither {table} nor a folder {inside}: put good "
                                 "pictures into train/good, and those to test on into test/good and test/FAULT",
                                 path=path, table=TABLE, inside=inside.relative_to(root).as_posix()))  # fmt: skip
        super().__init__(str(inside), max_gib=max_gib, whole=True, jitter=jitter)
        if table.is_file():
            labels = _of_part(_probabilities(table), part, good, faulty, held_out, seed)
        else:
            labels = {name: part == "test" and name.partition("/")[0] != GOOD for name in self._names}
        if part != "test":
            held = _drawn(sorted(labels), validation, seed, "validation")
            labels = {name: False for name in labels if (name in held) == (part == "validation")}
        kept = [(name, file) for name, file in zip(self._names, self._files, strict=True) if name in labels]
        if not kept:
            raise UserError(text("nothing_inspected", "{path}: none of its pictures are in the part {part}: see the "
                                 "table's names and probabilities, and the shares held_out and validation", path=path,
                                 part=part))  # fmt: skip
        self._names, self._files = [name for name, _ in kept], [file for _, file in kept]
        self.faulty = [labels[name] for name in self._names]

    def fingerprint(self) -> str:
        """That of the folder, and which pictures are faulty."""
        return f"{super().fingerprint()}-{self.faulty}"

    def findings(self, size: int, channels: int) -> Iterator[Finding]:
        """All pictures, as ``Findings`` says."""
        for index in self._alternating():
            name = self._names[index]
            image = framed(to_tensor(self.picture(index), channels), size)
            yield Finding(name=name, image=image, faulty=self.faulty[index], mask=self._mask(index, size))

    def verdicts(self) -> Sequence[bool]:
        """As ``Findings`` says."""
        return [self.faulty[index] for index in self._alternating()]

    def _alternating(self) -> Sequence[int]:
        bad = [index for index, faulty in enumerate(self.faulty) if faulty]
        fine = [index for index, faulty in enumerate(self.faulty) if not faulty]
        return [index for pair in zip_longest(bad, fine) for index in pair if index is not None]

    def _mask(self, index: int, size: int) -> Tensor | None:
        """Where the fault is; a place counts that it touches."""
        if not self.marks.is_dir():
            return None
        if not self.faulty[index]:
            return torch.zeros(1, size, size, dtype=torch.bool)
        inside = PurePosixPath(self._names[index])
        file = self.marks / inside.with_name(f"{inside.stem}_mask.png")
        if not file.is_file():
            raise UserError(text("no_mask_of_fault", "{name} shows a fault and has no mask: put one at {file}, or take "
                                 "ground_truth out", name=str(inside), file=file))  # fmt: skip
        return framed((to_tensor(read_picture(file), 1) > 0).float(), size)[:, 0] > 0


def _probabilities(table: Path) -> dict[str, float]:
    """How probably each picture of a table is faulty."""
    lines = table.read_text(encoding="utf-8").splitlines()
    rows = [row if len(row) > 1 else row[0].split() for row in csv.reader(lines) if row]
    try:
        return {row[0].strip(): float(row[1]) for row in rows}
    except (IndexError, ValueError):
        raise UserError(text("no_probabilities", "{table} is no table of pictures: each line says a path and a "
                             "probability, `images/cell0001.png 1.0` say", table=table)) from None  # fmt: skip


def _of_part(
    probabilities: dict[str, float], part: str, good: float, faulty: float, held_out: float, seed: int
) -> dict[str, bool]:
    """The pictures of a part, and whether they are faulty."""
    fine = sorted(name for name, each in probabilities.items() if each <= good)
    tested = _drawn(fine, held_out, seed, "held out")
    bad = [name for name, each in probabilities.items() if each >= faulty and each > good]
    chosen = {name: False for name in fine if (name in tested) == (part == "test")}
    return chosen | dict.fromkeys(bad if part == "test" else [], True)


def _drawn(names: Sequence[str], share: float, seed: int, what: str) -> set[str]:
    """A share of some names, rounded, drawn at random."""
    order = torch.randperm(len(names), generator=generator(seed, what)).tolist()
    return {names[index] for index in order[: round(share * len(names))]}


__all__ = ["Finding", "Findings", "Inspected"]
