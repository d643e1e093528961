"""A run elsewhere: a recipe as a Job of the Hugging Face Hub, on hardware by the minute, published when it is done."""

import hashlib
import json
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import httpx2
from huggingface_hub import HfApi, Volume, constants, get_token
from huggingface_hub._jobs_api import TERMINAL_JOB_STAGES, JobInfo
from huggingface_hub.errors import HfHubHTTPError

from kdgen.hub.deploy import CPU_WHEELS
from kdgen.hub.hardware import find_hardware, jobs_explained
from kdgen.hub.push import commit, is_students, open_repository
from kdgen.hub.wheel import wheel, wheel_name
from kdgen.models.hub_cache import HubId, WorldError, api, hub_id, with_retries
from kdgen.models.hub_cache.failures import LOGIN, PASSING, redacted
from kdgen.models.loading import BUNDLED
from kdgen.recipe import Recipe
from kdgen.types import Event, Kind, UserError, text
from kdgen.types.text import restored
from kdgen.utils.references import renamed

CODE = "kdgen-jobs"
"""The private repository of the user's that jobs are given this package and their recipes by."""

THE_JOB = text("the_job", "the job")
ENDED = {"CANCELED": text("job_cancelled", "was cancelled"), "DELETED": text("job_deleted", "was deleted")}
FAILED = text("job_failed", "failed")
"""What became of a job that was not done, by its stage, and of any other."""

MOUNTED = "/kdgen"
LABEL = {"made-by": "kdgen"}
AGAIN = 3.0
"""Seconds before a connection that was lost is tried again."""

PATIENCE = 600.0
"""Seconds without the Hub after which following ends; the job goes on."""

DONE = "COMPLETED"
TAIL = 40
"""Lines of a log that a glance reads."""

GLANCE_SECONDS = 3.0
"""For which it reads them: huggingface-hub takes a log as read once nothing came for 5 s, and jobs may never pause."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands.

    Attributes:
        id: of the Hub.
        url: of its page.
        name: of its recipe.
        hardware: its name.
        stage: in the Hub's words, ``RUNNING``.
        repo_id: where its student goes.
        message: of the Hub.
    """

    id: str
    url: str
    name: str
    hardware: str
    stage: str
    repo_id: str
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.stage in TERMINAL_JOB_STAGES


@dataclass(frozen=True, slots=True)
class Glance:
    """A job, its newest event if one is among its newest lines, and the last of the others."""

    job: Job
    event: Event | None
    lines: tuple[str, ...]


def time_limit(recipe: Recipe) -> int:
    """Seconds that a job has by default: its nets, installing, answers and a report, with room to spare."""
    nets = 1 + 2 * recipe.controls
    return int(1800 + 2 * nets * recipe.seconds) if recipe.seconds is not None else 6 * 3600


def begin(
    recipe: Recipe, flavor: str, *, repo_id: str | None = None, private: bool | None = True, seconds: int | None = None,
    token: str | None = None,
) -> Job:  # fmt: skip
    """Run a recipe as a job, which publishes its student.

    Args:
        recipe: what to run; what it names has to be bundled or on the Hub.
        flavor: the name of a machine, see ``hardware``.
        repo_id: where the student goes, ``org/name``; by default the user's, by the recipe's name. Made if need be.
        private: whether it is made for its owners alone.
        seconds: after which the job is ended; by default ``time_limit``.
        token: of whose job it is; by default of who is logged in. The job gets it as a secret.

    Raises:
        UserError: for a recipe that needs files of this machine, unknown hardware, nobody logged in, no right to run
            jobs or no credit, a name that is taken.
        WorldError: where Hub or network fail.
    """
    token = token or get_token()
    if not token:
        raise UserError(text("job_not_logged_in", "nobody is logged in to the Hub, and a job is somebody's: {login}",
                             login=LOGIN))  # fmt: skip
    _check_portable(recipe)
    recipe = recipe.model_copy(update={"device": "auto", "cache": recipe.cache.model_copy(update={"dir": None})})
    machine, hub = find_hardware(flavor, token), api(token)
    with jobs_explained(THE_JOB, writing=True):
        user = str(with_retries(lambda: hub.whoami(cache=True))["name"])
        repo = HubId.read(repo_id or f"{user}/{recipe.name}-student").name
        open_repository(hub, repo, private=None, may_replace=is_students, create_private=private)
        folder = _send(hub, f"{user}/{CODE}", recipe)
        cpu = machine.name.startswith("cpu")
        info = _submitted(
            hub,
            script_args=["distill", f"{MOUNTED}/{folder}/recipe.json", "--out", "run", "--push", repo, "--json"],
            dependencies=[f"{MOUNTED}/{folder}/{wheel_name()}"],
            env={"UV_INDEX": CPU_WHEELS, "UV_INDEX_STRATEGY": "unsafe-best-match"} if cpu else {},
            secrets={"HF_TOKEN": token},
            flavor=machine.name,
            timeout=seconds or time_limit(recipe),
            labels={**LABEL, "recipe": recipe.name, "repository": repo.replace("/", "--"), "name": recipe.name},
            volumes=[Volume(type="model", source=f"{user}/{CODE}", mount_path=MOUNTED, read_only=True)],
            namespace=user,
        )
    return _job(info)


def follow(id: str, *, token: str | None = None) -> Iterator[Event | str]:
    """What a job says, from its beginning to its end: events of its run, and other lines of its log.

    A connection that is lost is made again, and nothing is told twice.

    Raises:
        UserError: once the job has ended otherwise than well, with its last line.
        WorldError: where the Hub is out of reach for minutes; the job goes on.
    """
    hub, count, lost, last = api(token), 0, 0.0, ""
    with jobs_explained(THE_JOB, writing=False):
        user = str(with_retries(lambda: hub.whoami(cache=True))["name"])
        job = inspect(id, token=token)
    while True:
        try:
            for number, line in enumerate(hub.fetch_job_logs(job_id=id, namespace=user, follow=True)):
                if number < count:
                    continue
                count, lost = number + 1, 0.0
                event = _event(line)
                if event is None:
                    last = redacted(line) or last
                yield event or redacted(line)
            job = inspect(id, token=token)
            lost = 0.0
        except (httpx2.HTTPError, WorldError) as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > PATIENCE:
                raise WorldError(text("job_out_of_reach", "{endpoint} is out of reach; the job goes on: `kdgen jobs "
                                      "{id}` follows it again", endpoint=constants.ENDPOINT,
                                      id=id)) from error  # fmt: skip
            if isinstance(error, HfHubHTTPError) and error.response.status_code not in PASSING:
                raise UserError(text("job_refused", "job {id}: the Hub refused with error {status}", id=id,
                                     status=error.response.status_code)) from None  # fmt: skip
        if job.over:
            break
        time.sleep(AGAIN)
    if job.stage != DONE:
        raise UserError(text("job_ended", "job {id} {what}: {last} (its log: {url})", id=id,
                             what=ENDED.get(job.stage, FAILED), url=job.url,
                             last=last or job.message or text("job_silent", "it said nothing")))  # fmt: skip


def inspect(id: str, *, token: str | None = None) -> Job:
    """A job as it stands. Raises UserError for one that is not there or not the user's."""
    hub = api(token)
    with jobs_explained(text("job_of", "job {id}", id=id)):
        user = str(with_retries(lambda: hub.whoami(cache=True))["name"])
        return _job(with_retries(lambda: hub.inspect_job(job_id=id, namespace=user)))


def glance(id: str, *, token: str | None = None) -> Glance:
    """A job as it stands, with the newest of what it says; for whoever looks now and then."""
    hub = api(token)
    with jobs_explained(text("job_of", "job {id}", id=id)):
        user = str(with_retries(lambda: hub.whoami(cache=True))["name"])
        job = _job(with_retries(lambda: hub.inspect_job(job_id=id, namespace=user)))
        said = _newest(hub.fetch_job_logs(job_id=id, namespace=user, tail=TAIL)) if job.stage != "SCHEDULING" else []
    events = [event for line in said if (event := _event(line)) is not None]
    lines = [redacted(line) for line in said if _event(line) is None and line.strip()]
    return Glance(job, events[-1] if events else None, tuple(lines[-5:]))


def _newest(log: Iterable[str]) -> list[str]:
    """The last lines of a log; one that goes on faster than its reader's patience is left after a while."""
    until, lines = time.monotonic() + GLANCE_SECONDS, deque[str](maxlen=TAIL)
    for line in log:
        lines.append(line)
        if time.monotonic() > until:
            break
    return list(lines)


def cancel(id: str, *, token: str | None = None) -> None:
    """End a job."""
    hub = api(token)
    with jobs_explained(text("job_of", "job {id}", id=id)):
        user = str(with_retries(lambda: hub.whoami(cache=True))["name"])
        with_retries(lambda: hub.cancel_job(job_id=id, namespace=user))


def jobs(*, token: str | None = None) -> list[Job]:
    """The user's jobs that kdgen began, the newest first."""
    hub = api(token)
    with jobs_explained(text("list_of_jobs", "the list of jobs")):
        user = str(with_retries(lambda: hub.whoami(cache=True))["name"])
        return [_job(info) for info in hub.list_jobs(labels=LABEL, namespace=user)]


def _submitted(hub: HfApi, **options: Any) -> JobInfo:
    """A job of the command kdgen; huggingface-hub's warning, that jobs are experimental, is not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        info: JobInfo = hub.run_uv_job("kdgen", **options)
        return info


def _send(hub: HfApi, repo: str, recipe: Recipe) -> str:
    """Put this package and a recipe where a job can read them; returns their folder in the repository."""
    package, text = wheel(), recipe.to_json() + "\n"
    folder = hashlib.sha256(package + text.encode()).hexdigest()[:16]
    with_retries(lambda: hub.create_repo(repo, private=True, exist_ok=True))
    with TemporaryDirectory(prefix="kdgen-") as temporary:
        files = {f"{folder}/{wheel_name()}": Path(temporary) / "wheel", f"{folder}/recipe.json": Path(temporary) / "r"}
        for path, data in zip(files.values(), (package, text.encode()), strict=True):
            path.write_bytes(data)
        commit(hub, repo, files, stale=lambda path: False, message=f"{recipe.name}, for a job")
    return folder


def _check_portable(recipe: Recipe) -> None:
    """Raise for a recipe that names what only this machine has."""

    def check(what: str, reference: str) -> str:
        name = reference.partition("#")[0]
        if what == "path":
            raise UserError(text("bundled_elsewhere", "{name} is of this machine, and a job runs on another: what "
                                 "goes along is bundled, procedural or on the Hub", name=reference))  # fmt: skip
        if not (BUNDLED / name / "config.json").is_file() and hub_id(name) is None:
            raise UserError(text("model_elsewhere", "{name} is of this machine, and a job runs on another: publish "
                                 "it with `kdgen push`, and name it ORG/NAME", name=reference))  # fmt: skip
        return reference

    renamed(recipe.model_copy(update={"cache": recipe.cache.model_copy(update={"dir": None})}), check)


def _event(line: str) -> Event | None:
    """The event that a line of a log is; None for any other."""
    try:
        data = json.loads(line)
        return Event(**restored(data)) if data.get("kind") in get_args(Kind) else None
    except (ValueError, TypeError, AttributeError):
        return None


def _job(info: JobInfo) -> Job:
    labels: dict[str, Any] = info.labels or {}
    repo_id = str(labels.get("repository", "")).replace("--", "/", 1)
    return Job(
        id=info.id,
        url=info.url,
        name=str(labels.get("recipe", "")),
        hardware=str(info.flavor or ""),
        stage=str(info.status.stage),
        repo_id=repo_id,
        message=redacted(info.status.message or ""),
    )
