import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio
from huggingface_hub import RepoCard

SPACE = Path(__file__).parents[2] / "space"


def module(folder=SPACE):
    spec = importlib.util.spec_from_file_location("space_app", folder / "app.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_front_matter_says_what_a_space_needs():
    data = RepoCard((SPACE / "README.md").read_text(encoding="utf-8")).data
    assert data["sdk"] == "gradio"
    assert data["app_file"] == "app.py"
    assert data["sdk_version"] == gradio.__version__
    assert data["hf_oauth"] is True
    assert "manage-repos" in data["hf_oauth_scopes"]


def test_without_a_lent_accelerator_runs_train_as_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert module().lent() is None


def test_a_lent_accelerator_is_held_no_longer_than_a_slice(monkeypatch, tmp_path):
    declared = []

    def lend(duration):
        declared.append(duration)
        return lambda function: function

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    monkeypatch.setenv("KDGEN_APP_SLICE_SECONDS", "30")
    monkeypatch.setenv("KDGEN_APP_FOLDER", str(tmp_path))
    executing = module().lent()
    assert declared == [65]
    assert executing(["true"], tmp_path, 30.0) == 0
    assert executing([sys.executable, "-c", "raise SystemExit(2)"], tmp_path, 30.0) == 2


def test_preloaded_students_are_offered(tmp_path):
    assert module().students() == []
    shutil.copy(SPACE / "app.py", tmp_path)
    (tmp_path / "students.json").write_text(json.dumps(["org/tiny@" + "0" * 40]))
    assert module(tmp_path).students() == ["org/tiny@" + "0" * 40]
