"""What is imported is declared: an environment made of `pyproject.toml` alone runs the package."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def imported(folder: Path) -> dict[str, Path]:
    """The packages of others that the files of a folder import, wherever they do, with one file for each."""
    found: dict[str, Path] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            found |= {name.partition(".")[0]: path for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name != folder.name}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ;]", name)[0]).lower()


def test_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {plain(each) for each in project["dependencies"]}
    declared |= {plain(each) for extra in project["optional-dependencies"].values() for each in extra}
    known = packages_distributions()
    missing = {
        name: path.relative_to(ROOT).as_posix()
        for name, path in imported(ROOT / "kdgen").items()
        if not {plain(each) for each in known.get(name, [name])} & declared
    }
    assert missing == {}
