"""This package as a wheel: what is installed or checked out here, the same bytes each time."""

import base64
import hashlib
import zipfile
from functools import cache
from importlib.metadata import distribution, version
from io import BytesIO
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
TAG = "Wheel-Version: 1.0\nGenerator: kdgen\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRY_POINTS = "[console_scripts]\nkdgen = kdgen.__main__:main\n"


def wheel_name() -> str:
    """The file's name."""
    return f"kdgen-{version('kdgen')}-py3-none-any.whl"


@cache
def wheel() -> bytes:
    """The wheel, bundled weights included."""
    installed = distribution("kdgen")
    info = f"kdgen-{version('kdgen')}.dist-info"
    metadata = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    files = {
        path.relative_to(PACKAGE.parent).as_posix(): path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {f"{info}/{name}": text.encode() for name, text in (
        ("METADATA", metadata), ("WHEEL", TAG), ("entry_points.txt", ENTRY_POINTS))}  # fmt: skip
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
