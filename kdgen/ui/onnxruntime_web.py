"""onnxruntime-web, which the app serves itself: fetched once from npm, held against its hash, kept in the cache."""

import base64
import gzip
import hashlib
import os
import tarfile
from pathlib import Path
from tempfile import NamedTemporaryFile

import httpx2
from filelock import FileLock

from kdgen.models.hub_cache import WorldError
from kdgen.types import text
from kdgen.utils.cache import cache_folder

VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package as npm publishes it, in base64."""

REGISTRY = "https://registry.npmjs.org"
LARGEST = 64 * 2**20
"""Bytes that a package may have."""

FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What a browser loads of it: the interface, and WebAssembly with its loader."""


def runtime() -> Path:
    """The folder with ``FILES``, each compressed by gzip as ``NAME.gz``; they are fetched when first asked for.

    The registry is npm's own, or the one that `NPM_CONFIG_REGISTRY` names.

    Raises:
        WorldError: where the registry cannot be reached, or sends something else.
    """
    folder = cache_folder("onnxruntime-web") / VERSION
    if all((folder / f"{name}.gz").is_file() for name in FILES):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not all((folder / f"{name}.gz").is_file() for name in FILES):
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    url = f"{registry}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    digest, size = hashlib.sha512(), 0
    with NamedTemporaryFile(dir=folder, suffix=".tgz") as package:
        try:
            with httpx2.stream("GET", url, timeout=30, follow_redirects=True) as answer:
                answer.raise_for_status()
                for piece in answer.iter_bytes():
                    size += len(piece)
                    if size > LARGEST:
                        break
                    digest.update(piece)
                    package.write(piece)
        except httpx2.HTTPError as error:
            raise WorldError(text("no_runtime", "onnxruntime-web could not be fetched from {registry} ({type}): "
                                  "students run on the server alone until that can be reached", registry=registry,
                                  type=type(error).__name__)) from None  # fmt: skip
        if base64.b64encode(digest.digest()).decode() != SHA512:
            raise WorldError(text("other_runtime", "{registry} sent something else than onnxruntime-web {version}: it "
                                  "is not used", registry=registry, version=VERSION))  # fmt: skip
        package.flush()
        _unpack(Path(package.name), folder)


def _unpack(package: Path, folder: Path) -> None:
    with tarfile.open(package) as archive:
        for name in FILES:
            file = archive.extractfile(f"package/dist/{name}")
            assert file is not None, "the hash is that of a package with these files"
            partial = folder / f"{name}.partial"
            partial.write_bytes(gzip.compress(file.read(), 6))
            partial.replace(folder / f"{name}.gz")


__all__ = ["FILES", "VERSION", "runtime"]
