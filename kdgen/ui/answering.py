"""The process in which models are asked: takes calls over a connection, answers them, keeps a few models."""

import os
import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image

from kdgen.models.abilities import opaque
from kdgen.models.model import Model, load
from kdgen.models.task_arguments import changes_images
from kdgen.recipe import parse
from kdgen.registry import Spec
from kdgen.report.inferred import recipe_for
from kdgen.report.report import Report
from kdgen.report.said import about_of
from kdgen.tasks.fault_finding import open_detector
from kdgen.types import UserError, text
from kdgen.ui import choices, comparing, drawn, heard, picture_files, teacher_files
from kdgen.ui.comparing import Options
from kdgen.ui.heard import Heard
from kdgen.ui.limits import Limits
from kdgen.ui.side_by_side import Shown
from kdgen.ui.uploads import framed, open_full
from kdgen.ui.visitors import check_facts
from kdgen.ui.worker import Named, resident
from kdgen.utils.conditions import conditions_of

KEPT, KEPT_BYTES = 12, 10**9
"""Models that are kept, and bytes of their parameters."""

RESIDENT_BYTES = 2 * 10**9
"""Memory above which the process leaves, to be begun anew."""

_kept: OrderedDict[Named, Model] = OrderedDict()


def show(
    models: Sequence[Named], photo: Image.Image, options: Options, mask: Image.Image | None = None
) -> tuple[list[str], Shown | Heard]:
    """The names of models, and their pictures of the kind that suits them, or what they say of one."""
    found = _loaded(models)
    facts = comparing.shared_task(found)
    if about_of(facts):
        return list(found), heard.heard(found, photo, options.seed)
    changes = changes_images(facts)
    if len(found) < 2 and not changes:
        raise UserError(text("two_models", "name at least two models"))
    if changes:
        shown = comparing.on_photograph(found, photo, options, mask)
    else:
        shown = drawn.side_by_side_of(_drawings(tuple(models), options))
    return list(found), shown


def full_size(
    models: Sequence[Named], picture: Image.Image | Path, options: Options, limits: Limits, folder: Path,
    mask: Image.Image | None = None,
) -> list[str]:  # fmt: skip
    """Files of what the first two models make of a picture at full size; see ``comparing.full_size``."""
    found = _loaded(models[:2])
    photo = open_full(picture, limits) if isinstance(picture, Path) else picture
    mask = mask and framed(mask, photo.size, limits.pixels)
    return comparing.full_size(found, photo, folder, options, mask, most=limits.full_pixels)


def measure(models: tuple[Named, ...], options: Options) -> Report:
    """Cost and quality of models: of those that draw in latents by what they drew, of others on images of the task.

    Of those that say something of pictures it is the cost alone.
    """
    found = _loaded(models)
    if drawn.of_latents(found):
        return drawn.measured(found, _drawings(models, options), options)
    return _measured(models, options.sigma)


@lru_cache(maxsize=64)
def _measured(models: tuple[Named, ...], sigma: float) -> Report:
    found = _loaded(models)
    if about_of(comparing.shared_task(found)):
        return heard.measured(found)
    return comparing.measured(found, sigma=sigma)


@lru_cache(maxsize=1)
def _drawings(models: tuple[Named, ...], options: Options) -> dict[str, drawn.Drawn]:
    """What models draw: the last is kept, for whoever measures it next."""
    return drawn.drawings(_loaded(models), options)


def task(named: Named) -> dict[str, Any]:
    """What a model was made for, and under ``told`` which conditions its net reads."""
    model = _model(named)
    return {**model.task, "told": sorted(conditions_of(model.net) or ())}


def costs(task: str, student: str, teacher: Named) -> tuple[choices.Cost, choices.Cost]:
    """What teacher and student cost on the example of a task; task and student as JSON."""
    return choices.costs(Spec.model_validate_json(task), Spec.model_validate_json(student), _model(teacher))


@lru_cache(maxsize=16)
def inferred(teacher: Named, fresh: bool) -> str:
    """The recipe that follows from what a teacher says of itself, as JSON; ``fresh`` suits students of any size."""
    return recipe_for(teacher[1], _model(teacher), fresh=fresh)[0].to_json()


def proposed(recipe: str, teacher: Named, share: float, family: str | None, cache: Path) -> Spec:
    """A student of a share of a teacher's cost in the task of a recipe, given as JSON."""
    return choices.propose_for(parse(recipe), _model(teacher), share, family, cache)


CALLS: dict[str, Callable[..., Any]] = {
    "show": show, "full_size": full_size, "measure": measure, "task": task, "costs": costs, "proposed": proposed,
    "inferred": inferred,
    "keep_teacher": teacher_files.keep, "keep_pictures": picture_files.keep,
}  # fmt: skip


def _loaded(models: Sequence[Named]) -> dict[str, Model]:
    """Models by the name they are shown under."""
    found: dict[str, Model] = {}
    for named in models:
        model = _model(named)
        model = _detector(named) if about_of(model.task) == "faults" else model
        name = model.name if model.name not in found else f"{model.name} ({named[0].removeprefix('run:')[:12]})"
        found[name] = model
    return found


@lru_cache(maxsize=4)
def _detector(named: Named) -> Model:
    return open_detector(named[1])


def _model(named: Named) -> Model:
    if named not in _kept:
        model = load(named[1])
        if named[1].startswith("hub:") and "#" not in named[1]:  # of a half they are written here
            check_facts(model.task, hub=True)
        _kept[named] = model
    _kept.move_to_end(named)
    while len(_kept) > 1 and (len(_kept) > KEPT or sum(map(_bytes, _kept.values())) > KEPT_BYTES):
        _kept.popitem(last=False)
    return _kept[named]


def _bytes(model: Model) -> int:
    held = sum(each.numel() * each.element_size() for each in [*model.parameters(), *model.buffers()])
    return held + sum(each.num_bytes for each in opaque(model.net))


def _answer(name: str, args: Sequence[Any]) -> Any:
    try:
        return CALLS[name](*args)
    except UserError as error:
        return UserError(error.text)
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, MemoryError) or "memory" in str(error)
        return UserError(text("no_memory", "this needs more memory than there is for it here: take fewer or smaller "
                              "models, or fewer images") if short else str(error)[:300])  # fmt: skip
    except Exception as error:
        return UserError(text("not_worked_out", "this could not be worked out ({error})",
                              error=f"{type(error).__name__}: {str(error)[:200]}"))  # fmt: skip


def main() -> None:
    """Answer calls until the other side is gone."""
    connection = Connection(int(sys.argv[1]))
    parent = os.getppid()
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    try:
        while resident() < RESIDENT_BYTES:
            name, args = pickle.loads(connection.recv_bytes())
            connection.send_bytes(pickle.dumps(_answer(name, args)))
    except (EOFError, OSError, KeyboardInterrupt):
        pass


def _leave_with(parent: int) -> None:
    """Leave in the middle of a call, too, once the server is gone."""
    wait = threading.Event()
    while os.getppid() == parent:
        wait.wait(2.0)
    os._exit(0)


if __name__ == "__main__":
    main()
