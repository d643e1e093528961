"""What the server answers itself, before Gradio: the link to another device; and what it adds to every answer."""

import base64
import hashlib
import os
import re
from html import escape
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdgen.ui.runs import SECRET, Runs, new_session
from kdgen.ui.sessions import COOKIE, Codes
from kdgen.ui.words import CHINESE, ENGLISH

COOKIE_SECONDS = 180 * 86_400

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob: "
    "https://huggingface.co; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self' https://huggingface.co; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
"""What the page may load. Gradio makes functions of text, so that ``unsafe-eval`` stays; inline scripts are those whose
hashes are named, which are the ones that the server wrote, and no handler within HTML runs."""

SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


def routes(runs: Runs, codes: Codes) -> list[BaseRoute]:
    """The routes that come before those of Gradio."""

    async def enter(request: Request) -> Response:
        """Give a browser the session that a code stands for; one with runs of its own is asked first."""
        words = CHINESE if request.headers.get("accept-language", "").lower().startswith("zh") else ENGLISH
        session = codes.session(request.path_params["code"])
        if not session:
            return HTMLResponse(_page(words["enter_gone"], '<a href="../">kdgen</a>'), 404)
        present = request.cookies.get(COOKIE, "")
        has_runs = bool(SECRET.fullmatch(present) and present != session and runs.owned_by(present))
        if request.method == "POST" and request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return HTMLResponse(_page(words["enter_gone"], '<a href="../">kdgen</a>'), 403)
        if request.method != "POST" and has_runs:
            button = f"<form method=post><button>{escape(words['enter_button'])}</button></form>"
            return HTMLResponse(_page(words["enter_asks"], button))
        answer = RedirectResponse("../", 303)
        answer.headers.append("set-cookie", cookie(session, request.scope))
        return answer

    return [Route("/enter/{code}", enter, methods=["GET", "POST"])]


def _page(text: str, rest: str) -> str:
    looks = (
        ":root { color-scheme: light dark } body { font: 1.1rem system-ui; margin: 18vh auto; max-width: 32rem; "
        "padding: 0 1rem } button { font: inherit; padding: .6em 1.2em }"
    )
    return (
        '<!doctype html><meta name=viewport content="width=device-width"><title>kdgen</title>'
        f"<style>{looks}</style><main><h1>kdgen</h1><p>{escape(text)}</p>{rest}</main>"
    )


def cookie(session: str, scope: Scope) -> str:
    """The header that sets a session. On a Space, which huggingface.co shows in a frame, the cookie goes with it."""
    forwarded = Headers(scope=scope).get("x-forwarded-proto", scope.get("scheme", "http"))
    secure = forwarded.split(",")[0].strip() == "https"
    framed = secure and bool(os.environ.get("SPACE_ID"))
    kind = "SameSite=None; Secure; Partitioned" if framed else f"SameSite=Lax{'; Secure' if secure else ''}"
    return f"{COOKIE}={session}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; {kind}"


class Guard:
    """Gives every browser a session, keeps other sites' scripts from using it, and adds the headers of safety.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _foreign(headers, scope["method"]):
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
        fresh = ""
        if scope["path"] == "/" and scope["method"] == "GET":
            kept = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            fresh = cookie(kept if SECRET.fullmatch(kept) else new_session(), scope)
        await _Answer(send, fresh).through(self.app, scope, receive)


class _Answer:
    """An answer on its way out; pages are held back until their scripts are known."""

    def __init__(self, send: Send, fresh: str) -> None:
        self.send, self.fresh = send, fresh
        self.start: Message | None = None
        self.body = bytearray()

    async def through(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Let a request be answered."""
        await app(scope, receive, self._pass)

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self.fresh:
                headers.append("set-cookie", self.fresh)
            if headers.get("content-type", "").startswith("text/html"):
                self.start = message
                return
            if "javascript" not in headers.get("content-type", ""):  # its own policy would bind a worker
                headers.setdefault("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'self'")
        elif self.start is not None:
            self.body += message.get("body", b"")
            if message.get("more_body"):
                return
            headers = MutableHeaders(scope=self.start)
            headers["Content-Security-Policy"] = POLICY.format(hashes=_hashes(bytes(self.body)))
            await self.send(self.start)
            self.start = None
            message = {**message, "body": bytes(self.body)}
        await self.send(message)


def _hashes(page: bytes) -> str:
    found = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPT.findall(page))
    return "".join(f" 'sha256-{each}'" for each in dict.fromkeys(found))


def _foreign(headers: Headers, method: str) -> bool:
    """Whether a script or form of another site asks, which must not do so in the visitor's name; a link may."""
    link = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
    return headers.get("sec-fetch-site", "") in ("cross-site", "same-site") and not link


def server_arguments(runs: Runs, codes: Codes) -> dict[str, Any]:
    """What the server within Gradio is made with."""
    return {"routes": routes(runs, codes), "middleware": [Middleware(Guard)]}
