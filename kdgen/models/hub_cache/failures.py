"""Failures between this machine and the Hub: tried again where that helps, otherwise one line with a remedy."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR
from typing import TypeVar

import httpx2
from huggingface_hub import constants, get_session, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
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
    logging,
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
DROPPED = (httpx2.TimeoutException, httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
LOGIN = "run `hf auth login`, or set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
QUOTA = re.compile(r"quota|storage limit|storage space|payment|billing", re.IGNORECASE)


class WorldError(UserError):
    """Something outside failed that nobody here can mend: the Hub, the network. The command line exits with 3."""

    exit_code = 3


def with_retries(call: Callable[[], T]) -> T:
    """Call, and call again after a pause where the Hub failed or the connection dropped.

    huggingface-hub itself retries downloads, uploads and lists, but none of its other requests, nor a download whose
    connection was reset.

    Args:
        call: what to do; doing it twice does no harm.
    """
    deadline, pause = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            return call()
        except Exception as error:
            cause = _cause(error)
            wait = max(pause, _retry_after(cause.response)) if isinstance(cause, HfHubHTTPError) else pause
            if not _passes(cause) or time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
        pause = min(2 * pause, 16.0)


@contextmanager
def explained(what: str, *, writing: bool = False) -> Iterator[None]:
    """Within, no request waits without end, and failures of Hub or network are raised as one line with a remedy.

    Where there is no terminal, there are no progress bars. Warnings of huggingface-hub's, which may quote the signed
    address of an upload, are not shown.

    Args:
        what: the repository, as the lines call it.
        writing: whether something is being published.

    Raises:
        UserError: for what the user can mend.
        WorldError: for what only time can.
    """
    hooks = get_session().event_hooks
    hooks["request"].append(_end_silence)
    hooks["response"].append(_refuse_long_waits)
    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = _line(_cause(error), what, writing=writing)
        if line is None:
            raise
        raise line from None
    finally:
        hooks["request"].remove(_end_silence)
        hooks["response"].remove(_refuse_long_waits)
        logging.set_verbosity(verbosity)
        if hide:
            enable_progress_bars()


def _end_silence(request: httpx2.Request) -> None:
    """A request without a time-out, as huggingface-hub sends them but for downloads, gets one."""
    timeout = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {key: SILENCE if value is None else value for key, value in timeout.items()}


def _refuse_long_waits(response: httpx2.Response) -> None:
    """A wait longer than ``LONGEST_WAIT`` is an error: huggingface-hub waits as long as it is asked to, for hours."""
    if response.status_code in (429, 503) and _retry_after(response) > LONGEST_WAIT:
        raise HfHubHTTPError("a longer wait than is worth it", response=response)


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the Hub asks to wait; 0 if it does not say."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0


def _cause(error: BaseException) -> BaseException:
    """The failure behind what wraps it."""
    while not isinstance(error, httpx2.HTTPError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _passes(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING and _retry_after(error.response) <= LONGEST_WAIT
    return isinstance(error, DROPPED)


def _line(error: BaseException, what: str, *, writing: bool) -> UserError | None:
    """What a failure means, None for one that is not of the Hub or the network."""
    later = " What was uploaded is kept: run the same command again." if writing else " Try again later."
    match error:
        case OfflineModeIsEnabled():
            return UserError(f"{what}: HF_HUB_OFFLINE forbids to reach the Hub, and the cache lacks it: unset it")
        case LocalTokenNotFoundError():
            return UserError(f"{what}: nobody is logged in to the Hub: {LOGIN}")
        case UnicodeEncodeError() | httpx2.LocalProtocolError():
            return UserError(f"{what}: the token holds a character that no token has, a curly quote or a space "
                             f"perhaps: copy it again, without quotes; {LOGIN}")  # fmt: skip
        case HfHubHTTPError():
            return _status_line(error, what, later, writing=writing)
        case httpx2.TimeoutException():
            return WorldError(f"{what}: {constants.ENDPOINT} does not answer: check the network.{later}")
        case _ if isinstance(error, DROPPED):
            return WorldError(f"{what}: {constants.ENDPOINT} dropped the connection: check the network.{later}")
        case httpx2.HTTPError() | LocalEntryNotFoundError():
            return WorldError(f"{what}: {constants.ENDPOINT} cannot be reached: check the network.{later}")
        case OSError() if "Consistency check failed" in str(error):
            return WorldError(f"{what}: a download was cut short.{later}")
    return None


def _status_line(error: HfHubHTTPError, what: str, later: str, *, writing: bool) -> UserError:
    """What a status of 400 or more means."""
    status, endpoint = error.response.status_code, constants.ENDPOINT
    reason = redacted(f"{error.response.headers.get('X-Error-Message') or ''} {error.server_message or ''}")
    if isinstance(error, GatedRepoError):
        return UserError(f"{what} is gated: ask for access at {endpoint}/{what}, then {LOGIN}")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{what} has no such revision: name one of its branches, tags or commits")
    if status == 404 or (isinstance(error, RepositoryNotFoundError) and not (writing and status == 401)):
        return UserError(f"the Hub has no {what}, or it is private: check the spelling, or for a private one {LOGIN}")
    if status == 429:
        seconds = _retry_after(error.response)
        wait = f"wait {seconds:.0f} s" if seconds else "wait a while"
        return WorldError(f"{what}: the Hub has had too many requests: {wait}.{later}")
    if status >= 500 or status == 408:
        return WorldError(f"{what}: the Hub failed with error {status}, see https://status.huggingface.co.{later}")
    if status in (403, 413) and QUOTA.search(reason):
        status = 402
    way = "write there: use one that has, choose another owner, or propose the change with --create-pr"
    lines = {
        401: f"the Hub does not accept the token, it is wrong or has expired: {LOGIN}",
        402: "the Hub has no room or no plan left for this: free space or upgrade at "
        f"{endpoint}/settings/billing, or choose another owner",
        403: f"the token has no right to {way if writing else 'read there: use one that has'}",
        412: "it was changed by somebody else meanwhile: run the same command again",
    }
    line = lines.get(status, f"the Hub refused with error {status}: {reason[:200] or 'no reason given'}")
    return UserError(f"{what}: {line}")


def redacted(text: str) -> str:
    """Words of the Hub on one line, without tokens."""
    text, token = " ".join(text.split()), get_token()
    return re.sub(r"hf_\w{8,}", "hf_…", text.replace(token, "hf_…") if token else text)
