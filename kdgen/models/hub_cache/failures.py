"""What goes wrong between this machine and the Hub: waited out where that helps, otherwise said in one line."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, TypeVar

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    get_session,
    parse_ratelimit_headers,
)

from kdgen.types import UserError

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds after which nothing is tried again."""

LONGEST_WAIT = 60.0
"""Longest wait in seconds that the Hub may ask for and get."""

SILENCE = 60.0
"""Seconds of silence after which a connection counts as dropped."""

PASSING = (408, 429, 500, 502, 503, 504)
LOGIN = "run `hf auth login`, or set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
QUOTA = re.compile(r"quota|storage limit|storage space|payment|billing", re.IGNORECASE)


class WorldError(UserError):
    """Something outside failed that nobody here can mend: the Hub, the network. The command line exits with 3."""

    exit_code = 3


def patiently(call: Callable[[], T], *, again: bool = True) -> T:
    """Call, and call again after a pause where the Hub or the network failed in a way that passes.

    Args:
        call: what to do; doing it twice does no harm.
        again: whether a connection that dropped is a reason too: then nobody knows whether the call was done.
    """
    started, pause = time.monotonic(), 1.0
    while True:
        try:
            return call()
        except Exception as error:
            wait = _wait(error, pause, again=again)
            if wait is None or time.monotonic() - started + wait > PATIENCE:
                raise
        time.sleep(wait)
        pause = min(2 * pause, 16.0)


@contextmanager
def explained(what: str, *, writing: bool = False) -> Iterator[None]:
    """Within, connections have an end, and every failure of Hub or network is raised as one line with its remedy.

    Args:
        what: the repository, as the lines call it.
        writing: whether something is being published.

    Raises:
        UserError: for what the user can mend.
        WorldError: for what only time can.
    """
    kept = " What was uploaded is kept: run the same command again." if writing else " Try again later."
    try:
        with _BOUNDS:
            yield
    except UserError:
        raise
    except Exception as error:
        said = _line(_root(error), what, kept, writing=writing)
        if said is None:
            raise
        raise said from None


def _line(error: BaseException, what: str, kept: str, *, writing: bool) -> UserError | None:
    """What a failure means, None for one that is not of the Hub or the network."""
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(f"{what}: HF_HUB_OFFLINE forbids to reach the Hub, and the cache lacks it: unset it")
    if isinstance(error, LocalTokenNotFoundError):
        return UserError(f"{what}: nobody is logged in to the Hub: {LOGIN}")
    if isinstance(error, UnicodeEncodeError | httpx2.LocalProtocolError):
        return UserError(f"{what}: the token holds a character that no token has, a curly quote or a space perhaps: "
                         f"copy it again, without quotes; {LOGIN}")  # fmt: skip
    if isinstance(error, HFValidationError):
        return UserError(f"{what} is no id of the Hub: write ORG/NAME, of letters, digits, '-', '_' and '.'")
    if isinstance(error, HfHubHTTPError):
        return _answer(error, what, kept, writing=writing)
    if isinstance(error, httpx2.HTTPError | LocalEntryNotFoundError):
        how = "dropped the connection" if isinstance(error, httpx2.RemoteProtocolError) else "cannot be reached"
        return WorldError(f"{what}: {constants.ENDPOINT} {how}: check the network.{kept}")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return WorldError(f"{what}: a download was cut short.{kept}")
    return None


def _answer(error: HfHubHTTPError, what: str, kept: str, *, writing: bool) -> UserError:
    status = error.response.status_code
    told = clean(f"{error.response.headers.get('X-Error-Message') or ''} {error.server_message or ''}")
    if isinstance(error, GatedRepoError):
        return UserError(f"{what} is gated: ask for access at {constants.ENDPOINT}/{what}, then {LOGIN}")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{what} has no such revision: name one of its branches, tags or commits")
    if status == 402 or (status in (403, 413) and QUOTA.search(told)):
        return UserError(f"{what}: the Hub has no room or no plan left for this: free space or upgrade at "
                         f"{constants.ENDPOINT}/settings/billing, or choose another owner")  # fmt: skip
    if status == 401 and (writing or not isinstance(error, RepositoryNotFoundError)):
        return UserError(f"{what}: the Hub does not accept the token, it is wrong or has expired: {LOGIN}")
    if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        return UserError(f"the Hub has no {what}, or it is private: check the spelling, or for a private one {LOGIN}")
    if status == 403:
        way = "write there: use one that has, choose another owner, or propose the change with --create-pr"
        return UserError(f"{what}: the token has no right to {way if writing else 'read there: use one that has'}")
    if status == 409:
        return UserError(f"{what}: the name is taken or was renamed: choose another")
    if status == 412:
        return UserError(f"{what} was changed by somebody else meanwhile: run the same command again")
    if status == 429:
        seconds = _asked(error.response)
        wait = f"wait {seconds:.0f} s" if seconds else "wait a while"
        return WorldError(f"{what}: the Hub has had too many requests: {wait}.{kept}")
    if status >= 500 or status == 408:
        return WorldError(f"{what}: the Hub failed with error {status}, see https://status.huggingface.co.{kept}")
    return UserError(f"{what}: the Hub refused with error {status}: {told[:200] or 'no reason given'}")


def clean(text: str) -> str:
    """Words of the Hub on one line, without tokens."""
    text = " ".join(text.split())
    token = get_token()
    return re.sub(r"hf_\w{8,}", "hf_…", text.replace(token, "hf_…") if token else text)


def _root(error: BaseException) -> BaseException:
    """The failure behind what wraps it."""
    known = (httpx2.HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, HFValidationError)
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, known):
        inner = inner.__cause__
    return error if inner is None else inner


def _wait(error: BaseException, pause: float, *, again: bool) -> float | None:
    """Seconds to wait before another try, None if there is to be none."""
    root = _root(error)
    if isinstance(root, HfHubHTTPError):
        status = root.response.status_code
        if status not in PASSING or (status not in (429, 503) and not again):
            return None
        asked = _asked(root.response)
        return max(pause, asked) if asked <= LONGEST_WAIT else None
    if isinstance(root, httpx2.ConnectError | httpx2.ConnectTimeout):
        return pause if pause <= 2 else None
    passes = isinstance(root, httpx2.TransportError) and not isinstance(root, httpx2.LocalProtocolError)
    return pause if passes and again else None


def _asked(response: Any) -> float:
    """Seconds that the Hub asks to wait; 0 if it does not say."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    after = str(response.headers.get("Retry-After", ""))
    return float(after) if after.isdigit() else 0.0


def _refuse_long_waits(response: Any) -> None:
    """The client waits as long as the Hub asks for, hours too: beyond ``LONGEST_WAIT`` it is told not to."""
    if response.status_code in (429, 503) and _asked(response) > LONGEST_WAIT:
        raise HfHubHTTPError("a longer wait than is worth it", response=response)


class _Bounds:
    """Bounds the waits of the shared session while anybody is within, in this thread or another.

    It keeps off the screen the client's warnings, which quote signed addresses, and bars where there is no terminal.
    """

    def __init__(self) -> None:
        self.lock, self.within, self.undo = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            self.within += 1
            if self.within == 1:
                self._bind()

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.within -= 1
            if self.within == 0:
                self.undo.close()

    def _bind(self) -> None:
        session, notes = get_session(), logging.getLogger("huggingface_hub")
        for thing, name in ((session, "timeout"), (session, "event_hooks")):
            self.undo.callback(setattr, thing, name, getattr(thing, name))
        self.undo.callback(notes.setLevel, notes.level)
        hooks = session.event_hooks
        session.event_hooks = {**hooks, "response": [*hooks.get("response", ()), _refuse_long_waits]}
        session.timeout = httpx2.Timeout(SILENCE)
        notes.setLevel(logging.ERROR)
        if not sys.stderr.isatty() and not are_progress_bars_disabled():
            disable_progress_bars()
            self.undo.callback(enable_progress_bars)


_BOUNDS = _Bounds()

__all__ = ["WorldError", "clean", "explained", "patiently"]
