"""Where visitors reach the server."""

import re

from starlette.datastructures import Headers
from starlette.types import Scope

HOST = re.compile(r"[\w.:\[\]-]{1,255}")


def origin(scope: Scope) -> str:
    """Scheme and host of the server as visitors write them."""
    headers = Headers(scope=scope)
    scheme = headers.get("x-forwarded-proto", scope.get("scheme", "http")).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "localhost")).split(",")[0].strip()
    return f"{'https' if scheme == 'https' else 'http'}://{host if HOST.fullmatch(host) else 'localhost'}"
