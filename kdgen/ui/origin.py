"""Where visitors reach the server, and in which language."""

import re

from starlette.datastructures import Headers
from starlette.types import Scope

from kdgen.ui.words import CHINESE, ENGLISH

HOST = re.compile(r"[\w.:\[\]-]{1,255}")


def origin(scope: Scope) -> str:
    """Scheme and host of the server as visitors write them."""
    headers = Headers(scope=scope)
    scheme = headers.get("x-forwarded-proto", scope.get("scheme", "http")).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "localhost")).split(",")[0].strip()
    return f"{'https' if scheme == 'https' else 'http'}://{host if HOST.fullmatch(host) else 'localhost'}"


def words_of(headers: Headers) -> dict[str, str]:
    """The words in the language that a browser asks for first."""
    return CHINESE if headers.get("accept-language", "").lower().startswith("zh") else ENGLISH
