"""The notebooks of `docs/notebooks`: each runs from its first cell to its last, in seconds instead of minutes."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="no nbclient here: pip install nbclient ipykernel")
nbclient = pytest.importorskip("nbclient", reason="no nbclient here: pip install nbclient ipykernel")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LONGEST = "few-steps"
SHORT = "seconds, num_images = 1, 32"
"""Runs after the cell tagged `parameters`."""


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem == LONGEST)) for path in NOTEBOOKS]
)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    tagged = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(SHORT))
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_installs_and_stores_no_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    title, install, *_ = (cell.source for cell in notebook.cells)
    (repository,) = re.findall(r"git\+https://github\.com/([\w-]+/[\w-]+)", install)
    address = f"https://colab.research.google.com/github/{repository}/blob/main/{path.relative_to(ROOT).as_posix()}"
    assert f"({address})" in title
    for page in ("README.md", "README.zh-CN.md"):
        assert f"({address})" in (ROOT / page).read_text(encoding="utf-8")
    assert not any(cell.get("outputs") for cell in notebook.cells)
