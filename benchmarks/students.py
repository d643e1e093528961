"""The bundled students: every preset of this machine is run, and its student kept with its card and report.

    python benchmarks/students.py
    python benchmarks/students.py deblur dejpeg --out runs/students

Each is a run of `kdgen distill PRESET` with its controls; those that are there already are not run again, so that one
may be longer: `kdgen distill diffusion --seconds 300 --out runs/students/diffusion`. A student is bundled as
`PRESET-student`, in half precision where it is larger than 300 kB else.
"""

import argparse
import inspect
import shutil
from pathlib import Path

import torch
from presets import run

from kdgen import load, preset, registry
from kdgen.models.loading import BUNDLED
from kdgen.models.model import Model
from kdgen.recipe import read
from kdgen.report.report import Report
from kdgen.report.usage_snippets import by_command, with_kdgen

LARGEST = 300 * 1024
"""Bytes of a bundled student's weights at most."""


def taught() -> list[str]:
    """Presets that teach a student on a small machine."""
    recipes = [preset(name) for name in registry.names("preset")]
    return [recipe.name for recipe in recipes if recipe.teacher is not None and recipe.device == "auto"]


def bundle(folder: Path, name: str) -> int:
    """Keep a run's student, its card and its report; returns the bytes of its weights."""
    home, student = BUNDLED / name, load(folder)
    shutil.rmtree(home, ignore_errors=True)
    student.name = name
    for dtype in (None, torch.float16):
        student.save(home, dtype=dtype)
        size = sum(file.stat().st_size for file in home.rglob("*.safetensors"))
        if size <= LARGEST:
            break
    shutil.copy(folder / "report.json", home)
    (home / "README.md").write_text(card(folder, student), encoding="utf-8")
    return size


def card(folder: Path, student: Model) -> str:
    """What is told of a bundled student beside its weights."""
    report, recipe = Report.read(folder), read(folder / "recipe.json")
    kind, task = recipe.task.name, {**recipe.task.args, **student.task}
    about = (inspect.getdoc(registry.get("preset", recipe.name.replace("-", "_"))) or "").partition("\n\n")[0]
    assert student.use is not None
    longer = "" if recipe.seconds == preset(recipe.name).seconds else f" --seconds {recipe.seconds:g}"
    parts = [
        "---\nlibrary_name: kdgen\nlicense: apache-2.0\n---",
        f"# {student.name}",
        about,
        f"```python\n{with_kdgen(student.name, kind, task)}\n```",
        by_command(student.name, kind, student.use, task),
        f"## Figures\n\n{report.to_markdown().partition(chr(10))[2].strip()}",
        f"## How it was made\n\n    kdgen distill {recipe.name}{longer}",
        f"on {report.machine}. It has seen images that kdgen made or its teacher drew, and no others.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def main() -> None:
    """Run, and bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", help="default all that teach a student here")
    parser.add_argument("--out", type=Path, default=Path("runs/students"))
    args = parser.parse_args()
    for name in args.presets or taught():
        folder = args.out / name
        if not (folder / "report.json").is_file() and not run(preset(name), folder):
            return
        size = bundle(folder, f"{name}-student")
        print(f"{name}: {size:,} bytes{' - TOO LARGE' if size > LARGEST else ''}", flush=True)


if __name__ == "__main__":
    main()
