"""The pages of `docs/`: built without a warning, the same in both languages, and what they say to type is typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import call

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if not path.name.endswith(".zh.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
SECONDS = re.compile(r"(?<=--seconds )\d+|(?<=seconds=)\d+")
SHORT = "1"


def blocks(name: str) -> list[tuple[str, str]]:
    """The code of a page with its language.

    `sh` and `python` are run; `console` and `py` need the Hub, GPUs, your files or minutes.
    """
    return BLOCK.findall((DOCS / name).read_text(encoding="utf-8"))


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="no mkdocs here: pip install 'kdgen[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([*command, "--config-file", ROOT / "mkdocs.yml"], check=True, cwd=tmp_path, env=env)
    for page in ("index.html", "zh/index.html", "zh/space/index.html", "notebooks/denoiser.ipynb"):
        assert (tmp_path / page).is_file()


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"])
def test_what_a_page_beside_the_code_links_to_is_there(name: str) -> None:
    links = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_say_to_type_the_same(name: str) -> None:
    assert blocks(name) == blocks(name.replace(".md", ".zh.md"))


@pytest.mark.parametrize("name", [name for name in PAGES if any(kind in ("sh", "python") for kind, _ in blocks(name))])
def test_what_a_page_says_to_type_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, code in blocks(name):
        code = SECONDS.sub(SHORT, code)
        if kind == "python":
            exec(code, {"__name__": name})
        for line in code.splitlines() if kind == "sh" else []:
            command, *arguments = shlex.split(line)
            assert command == "kdgen"
            assert call(*arguments) == 0
