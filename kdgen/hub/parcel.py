"""What is sent: the files of a student, gathered in a folder of their own, each checked before."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants
from PIL import Image

from kdgen.hub.gallery import gallery
from kdgen.hub.scan import objection, outside, without_paths
from kdgen.models.config import Config, read_config
from kdgen.models.hub_cache import PAGES, copy_published, fetch, publishable
from kdgen.models.loading import BUNDLED, names_here
from kdgen.models.model import Model, load
from kdgen.recipe import Recipe, parse
from kdgen.report import model_card as cards
from kdgen.report.captions import description
from kdgen.report.report import Report
from kdgen.report.usage_snippets import needs_code
from kdgen.types import Text, UserError, text

OWN = ("checkpoints", "best", "previews", "controls", "assistants", "student", "metrics.jsonl", "state.json",
       ".begun.json", ".lock", "preview.png", "README.md", "gallery.png", *PAGES)  # fmt: skip
"""What a run writes; other files are named as not sent."""


@dataclass(slots=True)
class Parcel:
    """The files of a student, ready to be sent.

    Attributes:
        folder: holds them and nothing else.
        student: the folder they come from.
        run: the run that it belongs to, None for a student by itself.
        config: of the student.
        notes: what is not sent and why, and what is sent otherwise than it lies there, a line each.
        report: how the student was measured, if that is sent.
        recipe: how it was made, if that is sent.
    """

    folder: Path
    student: Path
    run: Path | None
    config: Config
    notes: list[str] = field(default_factory=list)
    report: Report | None = None
    recipe: Recipe | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The files by their paths in the repository, in order."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in paths}

    @property
    def card(self) -> str:
        """The model card."""
        return (self.folder / "README.md").read_text(encoding="utf-8")


def packed(
    source: Path, folder: Path, *, repo: str, license: str | None = None, datasets: Sequence[str] = ()
) -> Parcel:
    """Gather the files of a student.

    Args:
        source: a finished run, or the folder of a student.
        folder: an empty folder to gather them in.
        repo: the repository they are for, ``org/name``.
        license: of the student in the Hub's words, e.g. ``apache-2.0``; by default what its card says already.
        datasets: of the Hub, that it was trained on.

    Raises:
        UserError: if there is no student, or its configuration or weights must not be sent.
    """
    run = source.parent if source.name == "student" and (source.parent / "recipe.json").is_file() else source
    student = source / "student" if (source / "student" / "config.json").is_file() else source
    if not (student / "config.json").is_file():
        raise UserError(text("push_no_student", "{source} holds no finished student: name a run that is done, or the "
                             "folder of a student", source=source))  # fmt: skip
    parcel = Parcel(folder, student, None if run == student else run, read_config(student))
    if needs_code(parcel.config.net):
        raise UserError(text("push_own_net", "nothing was sent: {student} is of the net {name}, your own, that "
                             "nobody can open without its code: `kdgen export {student} --format onnx` writes a file "
                             "that opens without it, publish that", student=student,
                             name=parcel.config.net.name))  # fmt: skip
    if here := names_here(parcel.config):
        raise UserError(text("push_names_here", "nothing was sent: {student} is opened with {named} of this machine, "
                             "which nobody else has: publish that, and distill from it by its id on the Hub",
                             student=student, named=here))  # fmt: skip
    if parcel.run and outside(student, parcel.run):
        raise UserError(text("push_link", "{student} is a symbolic link out of its run: name the folder that it "
                             "leads to", student=student))  # fmt: skip
    _take_student(parcel)
    for name in PAGES:
        if (run / name).exists() or (run / name).is_symlink():
            _take(parcel, run / name, name, run)
    _read_pages(parcel)
    if parcel.run:
        _name_others(parcel, parcel.run)
    model = load(student)
    gallery(model, folder / "gallery.png")
    pictures = {name: _told(folder / name) for name in ("samples.png", "gallery.png") if (folder / name).is_file()}
    card = cards.card(parcel.report, parcel.recipe, config=parcel.config, repo=repo,
                      license=license or cards.licence(student), teacher=_teacher(parcel.recipe), pictures=pictures,
                      datasets=datasets)  # fmt: skip
    (folder / "README.md").write_text(card, encoding="utf-8")
    if reason := objection(folder / "README.md"):
        raise UserError(text("push_card", "the model card {reason}: mend the recipe's name or the report's notes it "
                             "comes from", reason=reason))  # fmt: skip
    return parcel


def _told(picture: Path) -> str:
    """What a picture says that it is of."""
    with Image.open(picture) as image:
        return description(image)


def _take_student(parcel: Parcel) -> None:
    """The configuration and the weights; without them there is nothing to send."""
    for path in _walk(parcel.student):
        name = path.relative_to(parcel.student).as_posix()
        if name in PAGES or name in ("README.md", "gallery.png"):
            continue
        if not publishable(name):
            parcel.notes.append(f"not sent: {name} is no part of a student")
        elif reason := _take(parcel, path, name, parcel.student):
            raise UserError(text("push_file", "nothing was sent: {path} {reason}: save the student anew with kdgen",
                                 path=path, reason=reason))  # fmt: skip


def _take(parcel: Parcel, path: Path, name: str, root: Path) -> Text | None:
    """Copy a file into the parcel, or note why it is not sent and return that."""
    if outside(path, root):
        reason: Text | None = text("leads_out", "is a symbolic link out of the folder")
    elif not path.is_file():
        reason = text("is_no_file", "is no file")
    else:
        target = parcel.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in PAGES and path.suffix in (".json", ".md"):
            words, paths = without_paths(path.read_text(encoding="utf-8", errors="replace"))
            target.write_text(words, encoding="utf-8")
            parcel.notes += [f"{name}: the absolute path {each} is cut to its last part" for each in sorted(set(paths))]
        else:
            shutil.copyfile(path, target)
        reason = objection(target)
        if reason:
            target.unlink()
    if reason:
        parcel.notes.append(f"not sent: {name} {reason}")
    return reason


def _read_pages(parcel: Parcel) -> None:
    """Report and recipe of the parcel, as far as they can be read."""
    for name, read in (("report.json", Report.read), ("recipe.json", _recipe)):
        path = parcel.folder / name
        if not path.is_file():
            continue
        try:
            setattr(parcel, name.removesuffix(".json"), read(path))
        except UserError as error:
            path.unlink()
            parcel.notes.append(f"not sent: {name} cannot be read: {str(error).replace(str(path), name)}")


def _recipe(path: Path) -> Recipe:
    """The recipe as it is published: where answers were kept is nobody's business."""
    recipe = parse(path.read_text(encoding="utf-8"), what=path.name)
    recipe = recipe.model_copy(update={"cache": recipe.cache.model_copy(update={"dir": None})})
    path.write_text(recipe.to_json() + "\n", encoding="utf-8")
    return recipe


def _name_others(parcel: Parcel, run: Path) -> None:
    """Name what somebody put into the run folder, which is not sent."""
    names = [path.relative_to(run) for path in _walk(run)]
    parcel.notes += [
        f"not sent: {name.as_posix()} is no part of a student" for name in names if name.parts[0] not in OWN
    ]


def _walk(folder: Path) -> list[Path]:
    """All files and links in a folder, without those behind links to folders."""
    paths = []
    for top, folders, files in os.walk(folder):
        linked = [name for name in folders if (Path(top) / name).is_symlink()]
        paths += [Path(top) / name for name in [*files, *linked]]
    return sorted(paths)


def _teacher(recipe: Recipe | None) -> Path | None:
    """The folder that the teacher was loaded from, where it is at hand."""
    id = cards.hub_teacher(recipe)
    if id is None:
        return BUNDLED / str(recipe.teacher).partition("#")[0] if recipe else None
    try:
        return fetch(id).folder
    except UserError:
        return None


def settled(source: Model | Path | str, folder: Path) -> Path:
    """The folder that a student is to be sent from: its own, or ``folder``, which it is written to or copied to.

    A model that was changed since it was loaded is written anew, without the report and recipe of what it was.
    """
    if not isinstance(source, Model):
        return Path(source)
    home = source.home
    if home is not None and load(home).fingerprint() == source.fingerprint():
        if Path(constants.HF_HUB_CACHE).resolve() not in home.resolve().parents:
            return home
        copy_published(home, folder)
        return folder
    if source.use is None:
        raise UserError(text("push_module", "{name} came as a module, which nobody else could build: publish a net "
                             "made by name", name=source.name))  # fmt: skip
    source.save(folder)
    return folder
