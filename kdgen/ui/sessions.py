"""Who a visitor is: a secret in a cookie that no script reads, and codes that hand it to another browser."""

import secrets
import threading
import time

import gradio as gr

COOKIE = "kdgen-session"
CODE_SECONDS = 600.0
MOST_CODES = 10_000


def session_of(request: gr.Request | None) -> str:
    """The session of the browser that asks; empty where it keeps no cookie."""
    return str(request.cookies.get(COOKIE) or "") if request is not None else ""


class Codes:
    """Codes that stand for sessions for ten minutes. They are kept in memory alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[str, float]] = {}

    def new(self, session: str) -> str:
        """A code for a session; earlier ones of it count no longer."""
        with self._lock:
            self._forget(session)
            while len(self._kept) >= MOST_CODES:
                self._kept.pop(next(iter(self._kept)))
            code = secrets.token_urlsafe(16)
            self._kept[code] = session, time.monotonic() + CODE_SECONDS
            return code

    def session(self, code: str) -> str:
        """The session that a code stands for; empty for a code that is unknown or too old."""
        with self._lock:
            self._forget()
            return self._kept.get(code, ("", 0.0))[0]

    def _forget(self, session: str = "") -> None:
        now = time.monotonic()
        self._kept = {code: each for code, each in self._kept.items() if each[1] > now and each[0] != session}
