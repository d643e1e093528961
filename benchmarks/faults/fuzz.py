"""Damaged and nonsensical inputs, by the thousand, in one process: recipes, students, checkpoints, images.

Each case ends as ``accepted`` or ``refused`` (a line for the user), or else as what must not be: ``traceback``,
``hang`` or ``wrong``, which is damage taken for the whole.
"""

import io
import json
import random
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdgen import presets
from kdgen.cli.console import explain
from kdgen.cli.files import Unreadable, restore_file
from kdgen.models.model import Model, build_net, load
from kdgen.recipe import parse
from kdgen.registry import Spec, names
from kdgen.training.checkpoint import Checkpoints
from kdgen.training.run import _Run

HANG = 30
"""Seconds after which a case counts as hanging."""

Case = Callable[[], bool]
"""Does one thing; whether what came out is what went in, or is anything at all where that cannot be known."""


class Tally:
    """How cases ended, and the first few that ended badly."""

    def __init__(self, name: str) -> None:
        self.name, self.ends, self.defects = name, Counter[str](), dict[str, str]()

    def add(self, case: Case) -> str:
        """Run a case and count its end."""
        end, told = run(case)
        self.ends[end] += 1
        if end in ("traceback", "hang", "wrong"):
            where = told.strip().splitlines()
            self.defects.setdefault("\n".join(where[-3:]), told)
        return end

    @property
    def bad(self) -> int:
        """How many ended badly."""
        return sum(self.ends[end] for end in ("traceback", "hang", "wrong"))


def run(case: Case) -> tuple[str, str]:
    """How a case ends, and its traceback where that is how."""

    def too_long(number: int, frame: object) -> None:
        raise TimeoutError("a case hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(HANG)
    try:
        with warnings.catch_warnings(action="ignore"):
            right = case()
        return ("accepted", "") if right else ("wrong", "damage was taken for the whole")
    except TimeoutError:
        return "hang", traceback.format_exc()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        code, message = explain(error) if isinstance(error, Exception) else (None, "")
        if code is None or "\n" in message or not message:
            return "traceback", traceback.format_exc()
        return "refused", ""
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged(whole: bytes, dice: random.Random) -> bytes:
    """Bytes with a few of them flipped, cut off, doubled, or zeroed in a row as by a lost page."""
    data = bytearray(whole)
    way = dice.randrange(5)
    if way == 0:
        return bytes(data[: dice.randrange(len(data))])
    if way == 1:
        at = dice.randrange(len(data))
        data[at : at + 4096] = bytes(len(data[at : at + 4096]))
    elif way == 2:
        at = dice.randrange(len(data))
        data[at:at] = data[at : at + dice.randrange(1, 64)]
    else:
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


WORDS = ["denoise", "dncnn", "output", "fixed", "dead_leaves", "folder", "gan", "1", "name", "args", "weight"]
LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats(-2, 80) | st.text(max_size=6) | st.sampled_from(WORDS)
    | st.sampled_from([float("nan"), float("inf")])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=5,
)
"""What stands where something else should."""


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All paths into nested dicts and lists."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def changed(draw: Callable[..., Any], whole: dict[str, Any], within: str = "") -> dict[str, Any]:
    """A recipe with one to three places, all or those under a key, replaced, removed, or given a neighbour."""
    data = deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        known = [place for place in places(data) if not within or within in place[:-1]]
        if not known:
            break
        *path, last = draw(st.sampled_from(known))
        where = data
        for key in path:
            where = where[key]
        what = draw(st.integers(0, 3))
        if what == 0:
            del where[last]
        elif what == 1 and isinstance(where, dict):
            where[draw(st.text(max_size=5))] = draw(VALUES)
        else:
            where[last] = draw(VALUES)
    return data


def each(strategy: st.SearchStrategy[Any], count: int, do: Callable[[Any], object], seed: int = 0) -> None:
    """Call a function with many examples of a strategy, the same ones every time."""

    @settings(max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def once(example: Any) -> None:
        do(example)

    once()


def recipes(count: int) -> Tally:
    """Presets with damage in their structure, and in their bytes."""
    tally, dice = Tally("recipes read"), random.Random(0)
    known = [json.loads(presets.preset(name).to_json()) for name in names("preset")]
    each(st.sampled_from(known).flatmap(changed), count // 2, lambda data: tally.add(lambda: bool(parse(data))))
    for _ in range(count - count // 2):
        text = damaged(json.dumps(dice.choice(known)).encode(), dice).decode(errors="replace")
        tally.add(lambda text=text: bool(parse(text)))  # type: ignore[misc]
    return tally


def built(count: int, tiny: dict[str, Any], folder: Path) -> Tally:
    """Recipes that were accepted as such, brought to life as a run is, short of its first step."""
    tally = Tally("recipes brought to life")

    def come_alive(data: dict[str, Any]) -> bool:
        recipe = parse(data)
        if recipe.batch_size > 64 or recipe.device != "cpu":
            return True
        return bool(_Run(folder / "run", recipe))

    each(changed(tiny, "args"), count, lambda data: tally.add(lambda: come_alive(data)))
    return tally


def a_student(folder: Path) -> Path:
    """A small student folder."""
    torch.manual_seed(0)
    net, use = build_net(Spec(name="half_res", args={"width": 8, "blocks": 1}), channels=1)
    Model(net, name="small", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(folder)
    return folder


def students(count: int, folder: Path) -> Tally:
    """A student folder with damage to its configuration or its weights, loaded and called."""
    tally, dice = Tally("student folders"), random.Random(1)
    home = a_student(folder / "student")
    whole = {name: (home / name).read_bytes() for name in ("config.json", "model.safetensors")}

    def open_and_call() -> bool:
        out = load(home)(torch.zeros(1, 1, 8, 8))
        return bool(out.isfinite().all())

    for number in range(count):
        name = ("config.json", "model.safetensors")[number % 2]
        (home / name).write_bytes(damaged(whole[name], dice))
        tally.add(open_and_call)
        (home / name).write_bytes(whole[name])
    return tally


def checkpoints(count: int, folder: Path) -> Tally:
    """A damaged checkpoint beside a whole one before it: what is loaded must be one of the two as it was saved."""
    tally, dice = Tally("checkpoints"), random.Random(2)
    kept = Checkpoints(folder / "run" / "checkpoints" / "student")
    for step in (1, 2):
        state = {"step": step, "dtype": "float32", "student": {"w": torch.arange(600.0) + step}, "critics": None}
        kept.save(state)
    whole = kept.last.read_bytes()

    def load_one() -> bool:
        state, _ = kept.load()
        assert state is not None
        right = {"w": torch.arange(600.0) + state["step"]}
        return state["step"] in (1, 2) and torch.equal(state["student"]["w"], right["w"])

    for _ in range(count):
        kept.last.write_bytes(damaged(whole, dice))
        tally.add(load_one)
    return tally


def images(count: int, folder: Path) -> Tally:
    """Damaged pictures of every format, restored; a picture that cannot be read gives a reason."""
    tally, dice = Tally("images"), random.Random(3)
    model = load(a_student(folder / "student"))
    ramp = np.add.outer(np.arange(40), 5 * np.arange(30)).astype(np.uint8)
    whole = {}
    for suffix, image in ((".png", Image.fromarray(ramp)), (".jpg", Image.fromarray(np.dstack([ramp] * 3))),
                          (".webp", Image.fromarray(np.dstack([ramp] * 4))), (".tiff", Image.fromarray(ramp)),
                          (".PNG", Image.fromarray(ramp.astype(np.uint16) * 257))):  # fmt: skip
        data = io.BytesIO()
        image.save(data, "jpeg" if suffix == ".jpg" else suffix[1:].lower())
        whole[suffix] = data.getvalue()
    for number in range(count):
        suffix = list(whole)[number % len(whole)]
        source = folder / f"in{suffix}"
        source.write_bytes(damaged(whole[suffix], dice))

        def restored(source: Path = source) -> bool:
            try:
                return all("\n" not in note for note in restore_file(model, source, folder / "out.png", 25))
            except Unreadable as reason:
                return "\n" not in str(reason)

        tally.add(restored)
    return tally


def everything(cases: int, folder: Path, tiny: dict[str, Any]) -> Iterator[Tally]:
    """All kinds of inputs, ``cases`` in all."""
    yield recipes(cases * 3 // 10)
    yield built(cases // 20, tiny, folder / "built")
    yield students(cases * 2 // 10, folder / "students")
    yield checkpoints(cases * 2 // 10, folder / "checkpoints")
    yield images(cases - cases * 15 // 20, folder / "images")
