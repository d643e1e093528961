"""What the app knows of a run beside its folder, and of whose it is."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal

from kdgen.types import Text, UserError, text

State = Literal["queued", "running", "done", "stopped", "failed"]
ID = re.compile(r"[0-9a-f]{12}")
SECRET = re.compile(r"[\w-]{20,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Job:
    """What the app knows of a run beside its folder.

    Attributes:
        id: names its home folder.
        owner: a hash of the session that it belongs to.
        name: of its recipe.
        task: of its recipe.
        created, ended: seconds since the epoch.
        state: where it stands.
        message: why it failed.
        held: seconds for which its visitors held a lent accelerator for it.
    """

    id: str
    owner: str
    name: str
    task: str
    created: float
    ended: float = 0.0
    state: State = "queued"
    message: str = ""
    held: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing will happen to it by itself."""
        return self.state not in ("queued", "running")

    @property
    def place(self) -> str:
        """The name of the folder from which its files are sent, which nobody finds out who has its id or a link."""
        return hashlib.sha256(f"{self.id} {self.owner}".encode()).hexdigest()[:32]


STATES: dict[State, Text] = {
    "queued": text("state_queued", "queued"), "running": text("state_running", "running"),
    "done": text("state_done", "done"), "stopped": text("state_stopped", "stopped"),
    "failed": text("state_failed", "failed"),
}  # fmt: skip


def not_done(job: Job) -> Text:
    """Why nothing is made of a run that is not done."""
    return text("run_not_done", "this run is not done, it is {state}", state=STATES[job.state])


def owner_of(session: str) -> str:
    """The hash under which runs of a session are kept. Raises UserError for what is no session."""
    if not isinstance(session, str) or not SECRET.fullmatch(session):
        raise UserError(text("no_session", "this page has no session yet: reload it, or as a program pass `session` as "
                             "you were given it"))  # fmt: skip
    return hashlib.sha256(session.encode()).hexdigest()


def new_session() -> str:
    """A secret that nobody guesses."""
    return secrets.token_urlsafe(24)
