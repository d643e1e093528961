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

from kdgen.types import Text, UserError, text

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds after which nothing is tried again."""

LONGEST_WAIT = 60.0
"""Longest wait in seconds that the Hub may ask for and get."""

SILENCE = 60.0
"""Seconds of silence after which a connection counts as dropped."""

PASSING = (408, 429, 500, 502, 503, 504)
DROPPED = (httpx2.TimeoutException, httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
LOGIN = text("hub_login", "run `hf auth login`, or set HF_TOKEN to a token from https://huggingface.co/settings/tokens")
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
    later = (text("hub_kept", " What was uploaded is kept: run the same command again.") if writing else
             text("hub_later", " Try again later."))  # fmt: skip
    match error:
        case OfflineModeIsEnabled():
            return UserError(text("hub_offline", "{what}: HF_HUB_OFFLINE forbids to reach the Hub, and the cache "
                                  "lacks it: unset it", what=what))  # fmt: skip
        case LocalTokenNotFoundError():
            return UserError(text("hub_not_logged_in", "{what}: nobody is logged in to the Hub: {login}", what=what,
                                  login=LOGIN))  # fmt: skip
        case UnicodeEncodeError() | httpx2.LocalProtocolError():
            return UserError(text("hub_token_character", "{what}: the token holds a character that no token has, a "
                                  "curly quote or a space perhaps: copy it again, without quotes; {login}", what=what,
                                  login=LOGIN))  # fmt: skip
        case HfHubHTTPError():
            return _status_line(error, what, later, writing=writing)
        case httpx2.TimeoutException():
            return WorldError(text("hub_silent", "{what}: {endpoint} does not answer: check the network.{later}",
                                   what=what, endpoint=constants.ENDPOINT, later=later))  # fmt: skip
        case _ if isinstance(error, DROPPED):
            return WorldError(text("hub_dropped", "{what}: {endpoint} dropped the connection: check the "
                                   "network.{later}", what=what, endpoint=constants.ENDPOINT,
                                   later=later))  # fmt: skip
        case httpx2.HTTPError() | LocalEntryNotFoundError():
            return WorldError(text("hub_out_of_reach", "{what}: {endpoint} cannot be reached: check the "
                                   "network.{later}", what=what, endpoint=constants.ENDPOINT,
                                   later=later))  # fmt: skip
        case OSError() if "Consistency check failed" in str(error):
            return WorldError(text("hub_cut_short", "{what}: a download was cut short.{later}", what=what, later=later))
    return None


def _status_line(error: HfHubHTTPError, what: str, later: Text, *, writing: bool) -> UserError:
    """What a status of 400 or more means."""
    status, endpoint = error.response.status_code, constants.ENDPOINT
    reason = redacted(f"{error.response.headers.get('X-Error-Message') or ''} {error.server_message or ''}")
    if isinstance(error, GatedRepoError):
        return UserError(text("hub_gated", "{what} is gated: ask for access at {endpoint}/{what}, then {login}",
                              what=what, endpoint=endpoint, login=LOGIN))  # fmt: skip
    if isinstance(error, RevisionNotFoundError):
        return UserError(text("hub_no_revision", "{what} has no such revision: name one of its branches, tags or "
                              "commits", what=what))  # fmt: skip
    if status == 404 or (isinstance(error, RepositoryNotFoundError) and not (writing and status == 401)):
        return UserError(text("hub_not_found", "the Hub has no {what}, or it is private: check the spelling, or for "
                              "a private one {login}", what=what, login=LOGIN))  # fmt: skip
    if status == 429:
        seconds = _retry_after(error.response)
        wait = (text("wait_seconds", "wait {seconds:.0f} s", seconds=seconds) if seconds else
                text("wait_a_while", "wait a while"))  # fmt: skip
        return WorldError(text("hub_too_many_requests", "{what}: the Hub has had too many requests: {wait}.{later}",
                               what=what, wait=wait, later=later))  # fmt: skip
    if status >= 500 or status == 408:
        return WorldError(text("hub_failed", "{what}: the Hub failed with error {status}, see "
                               "https://status.huggingface.co.{later}", what=what, status=status,
                               later=later))  # fmt: skip
    if status in (403, 413) and QUOTA.search(reason):
        status = 402
    lines = {
        401: text("hub_token_refused", "the Hub does not accept the token, it is wrong or has expired: {login}",
                  login=LOGIN),
        402: text("hub_no_room", "the Hub has no room or no plan left for this: free space or upgrade at "
                  "{endpoint}/settings/billing, or choose another owner", endpoint=endpoint),
        403: text("hub_no_writing", "the token has no right to write there: use one that has, choose another owner, or "
                  "propose the change with --create-pr") if writing else
        text("hub_no_reading", "the token has no right to read there: use one that has"),
        412: text("hub_changed", "it was changed by somebody else meanwhile: run the same command again"),
    }  # fmt: skip
    refused = text("hub_refused", "the Hub refused with error {status}: {reason}", status=status,
                   reason=reason[:200] or text("no_reason", "no reason given"))  # fmt: skip
    return UserError(text("at_key", "{key}: {message}", key=what, message=lines.get(status, refused)))


def redacted(words: str) -> str:
    """Words of the Hub on one line, without tokens."""
    line, token = " ".join(words.split()), get_token()
    return re.sub(r"hf_\w{8,}", "hf_…", line.replace(token, "hf_…") if token else line)
