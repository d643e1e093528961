"""The pages of `docs/`: built without a warning, the same in both languages, and what they say to type is typed."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if not path.name.endswith(".zh.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = ["--steps", "2", "--no-controls", "--set", "cache.inputs=16", "--set", "evaluate_every=null"]


def blocks(name: str) -> list[tuple[str, str]]:
    """The code of a page with its language. `sh` and `python` are run; `console` needs the Hub, GPUs, your files or minutes."""
    return BLOCK.findall((DOCS / name).read_text(encoding="utf-8"))


@pytest.mark.skipif(
    find_spec("mkdocs") is None or find_spec("material") is None, reason="no mkdocs here: pip install 'kdgen[docs]'"
)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    subprocess.run([*command, "--config-file", ROOT / "mkdocs.yml"], check=True, cwd=tmp_path)
    for page in ("index.html", "zh/index.html", "zh/space/index.html"):
        assert (tmp_path / page).is_file()


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_say_to_type_the_same(name: str) -> None:
    assert blocks(name) == blocks(name.replace(".md", ".zh.md"))


@pytest.mark.parametrize("name", [name for name in PAGES if any(kind in ("sh", "python") for kind, _ in blocks(name))])
def test_what_a_page_says_to_type_works(name: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "KDGEN_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    for kind, code in blocks(name):
        if kind == "python":
            short = code.replace("lasting(seconds=60)", "lasting(steps=2)")
            subprocess.run([sys.executable, "-c", short], check=True, cwd=tmp_path, env=env)
        for line in code.splitlines() if kind == "sh" else []:
            words = shlex.split(re.sub(r" --seconds \d+", "", line))
            assert words[0] == "kdgen"
            more = SHORT if words[1] == "distill" else []
            subprocess.run([sys.executable, "-m", *words, *more], check=True, cwd=tmp_path, env=env)
