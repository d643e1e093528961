"""What kdgen's training needs that a bare machine with torch does not have."""

import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

NEEDED = ("annotated-types", "click", "diffusers", "httpcore2", "httpx2", "huggingface-hub", "idna",
          "importlib-metadata", "lazy-importer", "peft", "pydantic", "pydantic-core", "tokenizers", "torchao",
          "transformers", "truststore", "typing-extensions", "typing-inspection")  # fmt: skip
"""What kdgen's training needs beyond torch, numpy, safetensors and their like, in the versions installed here."""

BESIDE = ("nvidia-modelopt", "omegaconf", "pulp<4")
"""What it is compared with."""

GLIBC = (39, 38, 36, 35, 34, 31, 28, 27, 24, 17, 12, 5)
TRAVELS = 64
"""MiB that can be brought to a lent machine."""


def fetch(folder: Path) -> int:
    """Download the wheels for CPython 3.12 on x86-64 Linux and say how large they are; the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    tags = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
    platforms = [part for tag in tags for part in ("--platform", tag)]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                "--python-version", "3.12", "--implementation", "cp", *platforms, "--dest", str(folder)]  # fmt: skip
    for name in (*NEEDED, *BESIDE):
        try:
            wanted = f"{name}=={version(name)}" if name in NEEDED else name
        except PackageNotFoundError:
            wanted = name
        subprocess.run([*download, wanted], check=True)
    wheels = sorted(folder.glob("*.whl"))
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 2**20:7.2f} MiB  {wheel.name}")
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"{size:7.2f} MiB  in all, of {TRAVELS} that can travel")
    return int(size > TRAVELS)


def install(folder: Path) -> None:
    """Use the wheels in a folder in this process and its children, before all that is installed."""
    target = tempfile.mkdtemp(prefix="kdgen-wheels-")
    wheels = [str(wheel) for wheel in sorted(folder.glob("*.whl"))]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile",
                    "--target", target, *wheels], check=True)  # fmt: skip
    sys.path.insert(0, target)


def _note(folder: Path, name: str, known: str) -> None:
    """Have packages find a version of another."""
    noted = folder / f"{name}-{known}.dist-info" / "METADATA"
    noted.parent.mkdir()
    noted.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {known}\n")


def declare() -> None:
    """Say which version of kdgen this is where it is not installed: students that are saved note it."""
    try:
        version("kdgen")
    except PackageNotFoundError:
        known = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
        target = tempfile.mkdtemp(prefix="kdgen-version-")
        _note(Path(target), "kdgen", known)
        sys.path.append(target)
