"""Read-only links to finished runs: made and revoked by their owners. A link shows one run, and can do nothing."""

import json
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kdgen.presets import preset
from kdgen.recipe import Recipe, override
from kdgen.types import UserError, text
from kdgen.ui.job import STATES, Job
from kdgen.ui.runs import Runs
from kdgen.utils.convert import write_text

TOKEN = re.compile(r"([0-9a-f]{12})-([\w-]{22})", re.ASCII)
FILE = "share.json"
GONE = text("nothing_shown", "nothing is shown under this link: its owner took it back, or the run was deleted")


@dataclass(frozen=True, slots=True)
class Shared:
    """A run that its owner shows.

    Attributes:
        job: the run.
        token: of its link.
    """

    job: Job
    token: str


def share(runs: Runs, id: str, session: str) -> str:
    """The token of a run's link, made where there is none yet.

    Raises:
        UserError: for a run of somebody else, and for one that is not done.
    """
    job = runs.get(id, session)
    if job.state != "done":
        raise UserError(text("not_shown", "only a run that is done can be shown to others, and this one is {state}",
                             state=STATES[job.state]))  # fmt: skip
    if not (token := token_of(runs, job)):
        token = f"{job.id}-{secrets.token_urlsafe(16)}"
        write_text(runs.home(job) / FILE, json.dumps({"token": token, "made": time.time()}))
    return token


def revoke(runs: Runs, id: str, session: str) -> None:
    """Take a run's link back. Raises UserError for a run of somebody else."""
    (runs.home(runs.get(id, session)) / FILE).unlink(missing_ok=True)


def token_of(runs: Runs, job: Job) -> str:
    """The token of a run's link; empty where it has none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((runs.home(job) / FILE).read_text(encoding="utf-8"))["token"])
    return ""


def shown_by(runs: Runs, token: str) -> Job:
    """The run that a link shows. Raises UserError where there is none."""
    found = TOKEN.fullmatch(token)
    job = runs.find(found[1]) if found else None
    if job is None or job.state != "done" or not secrets.compare_digest(token_of(runs, job), token):
        raise UserError(GONE)
    return job


def all_shared(runs: Runs) -> list[Shared]:
    """All runs that their owners show, the newest first."""
    jobs = sorted((job for job in runs.all() if job.state == "done"), key=lambda job: -job.ended)
    return [Shared(job, token) for job in jobs if (token := token_of(runs, job))]


def changed_settings(recipe: Recipe) -> tuple[str, list[str]]:
    """The preset that a recipe comes from, and what was changed; an empty name where no preset explains it."""
    try:
        base = preset(recipe.name)
        settings = _differences(base.model_dump(mode="json"), recipe.model_dump(mode="json"))
        if override(base, settings) == recipe:
            return recipe.name, settings
    except UserError:
        pass
    return "", []


def command_line(recipe: Recipe) -> str:
    """The line of the command line that makes such a student again."""
    name, settings = changed_settings(recipe)
    if not name:
        return "kdgen distill recipe.json"
    return " ".join(["kdgen distill", name, *(f"--set {_quoted(setting)}" for setting in settings)])


def python(recipe: Recipe) -> str:
    """The same in Python."""
    name, settings = changed_settings(recipe)
    if name:
        made = f"override(kdgen.preset({json.dumps(name)}), {json.dumps(settings)})" if settings else \
               f"kdgen.preset({json.dumps(name)})"  # fmt: skip
        what = "from kdgen.recipe import override\n" if settings else ""
    else:
        what, made = "from pathlib import Path\n\nfrom kdgen.recipe import read\n", 'read(Path("recipe.json"))'
    return (f"import kdgen\n{what}\nrecipe = {made}\nfor event in kdgen.distill(recipe, \"runs/mine\"):\n"
            "    print(event.kind, event.data)\nstudent = kdgen.load(\"runs/mine\")\n")  # fmt: skip


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """``KEY=VALUE`` for what differs, as deep within as both have the same shape."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return [each for name in old for each in _differences(old[name], new[name], f"{key}.{name}" if key else name)]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and key == "stages":
        pairs = enumerate(zip(old, new, strict=True))
        return [each for at, pair in pairs for each in _differences(*pair, f"{key}.{at}")]
    if old == new or (key in ("steps", "seconds") and new is None):
        return []
    return [f"{key}={json.dumps(new)}"]


def _quoted(setting: str) -> str:
    return setting if re.fullmatch(r"[\w.=,+-]+", setting) else "'" + setting.replace("'", "'\\''") + "'"
