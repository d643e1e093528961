"""Whether a recipe's training fits into the memory of a GPU, and what of ``memory`` to switch on that it does."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec

import torch
from pydantic import Field

from kdgen.models.weightless import Folders
from kdgen.recipe import Memory, Recipe
from kdgen.training.footprint import Footprint, footprint
from kdgen.utils.cache import cache_folder
from kdgen.utils.convert import write_text
from kdgen.utils.schema import Strict

GPUS = (24, 80)
"""GiB of memory of the GPUs that people have."""

FREE = 0.1
"""Share of it that is left to the driver, to libraries and to gaps between tensors."""

SWITCHES: tuple[dict[str, str | bool], ...] = (
    {"checkpointing": True},
    {"optimizer_states": "int8"},
    {"weights": "bfloat16"},
)
"""What is switched on, one after another: what costs no accuracy first."""


class Way(Strict):
    """A way to train, and what it takes."""

    memory: Memory = Field(description="the switches of the recipe")
    parts: int = Field(description="how many a batch is taken in: a run finds that out by itself")
    footprint: Footprint = Field(description="what it takes")

    def fits(self, gib: float) -> bool:
        """Whether it leaves a tenth of a GPU's memory free."""
        return self.footprint.total <= (1 - FREE) * gib * 2**30


class Fitting(Strict):
    """A recipe as it is, and the first way that fits on each GPU."""

    own: Way = Field(description="the recipe as it is")
    fitting: dict[int, Way | None] = Field(description="by GiB; None where no way does")


def fit(recipe: Recipe, folders: Folders, gpus: Sequence[int] = GPUS, *, processes: int = 1) -> Fitting:
    """Count what the recipe's training takes, and try what to switch on where it does not fit.

    Args:
        recipe: what to do.
        folders: with the configurations of models of the Hub.
        gpus: GiB of memory of each.
        processes: that share each batch, on a GPU each.

    Raises:
        UserError: as ``footprint`` does.
    """
    ways = list[Way]()
    trying = _ways(recipe, folders, processes)
    fitting: dict[int, Way | None] = {}
    for gib in sorted(gpus, reverse=True):
        found = next((way for way in ways if way.fits(gib)), None)
        while found is None and (way := next(trying, None)) is not None:
            ways.append(way)
            found = way if way.fits(gib) else None
        fitting[gib] = found
    return Fitting(own=ways[0], fitting=dict(sorted(fitting.items())))


def _ways(recipe: Recipe, folders: Folders, processes: int) -> Iterator[Way]:
    """The recipe as it is, then with one switch more each, at last image by image."""
    memory = recipe.memory
    yield _way(recipe, memory, 1, folders, processes)
    for switch in SWITCHES:
        more = memory.model_copy(update=switch)
        if more != memory and _possible(recipe, more):
            memory = more
            yield _way(recipe, memory, 1, folders, processes)
    if (share := -(-recipe.batch_size // processes)) > 1:
        yield _way(recipe, memory, share, folders, processes)


def _possible(recipe: Recipe, memory: Memory) -> bool:
    if memory.optimizer_states == "int8" and (
        find_spec("torchao") is None or any(stage.optimizer != "adamw" for stage in recipe.stages)
    ):
        return False
    return memory.weights == "float32" or not (recipe.precision == "float32" or recipe.shard_student)


def _way(recipe: Recipe, memory: Memory, parts: int, folders: Folders, processes: int) -> Way:
    """What a way takes, kept on disk once it is counted."""
    changed = recipe.model_copy(update={"memory": memory})
    files = [file.read_bytes() for folder in folders.values() for file in sorted(folder.rglob("*.json"))]
    known = json.dumps(
        [changed.model_dump(mode="json"), parts, processes, torch.__version__, version("kdgen")]
    ).encode()
    path = cache_folder("footprints") / f"{hashlib.sha256(b''.join([known, *files])).hexdigest()[:16]}.json"
    try:
        counted = Footprint.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        counted = footprint(changed, folders, parts=parts, processes=processes)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, counted.model_dump_json())
    return Way(memory=memory, parts=parts, footprint=counted)


__all__ = ["Fitting", "Way", "fit"]
