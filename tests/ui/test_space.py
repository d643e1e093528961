import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import gradio
import pytest
from huggingface_hub import RepoCard

from kdgen.ui import limits

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
    assert data["hf_oauth_scopes"] == ["contribute-repos", "jobs"]


def test_where_spaces_is_installed_but_nothing_is_lent_runs_train_as_they_are(monkeypatch):
    def lend(**options):
        raise AssertionError("nothing is lent")

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    for value in (None, "", "false", "0"):
        if value is None:
            monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
        else:
            monkeypatch.setenv("SPACES_ZERO_GPU", value)
        assert module().lent() is None


def test_a_lent_accelerator_is_held_for_a_slice_its_start_and_its_end(monkeypatch, tmp_path):
    durations = []

    def lend(duration):
        def decorate(function):
            def scheduled(*arguments):
                durations.append(duration(*arguments))
                return function(*arguments)

            return scheduled

        return decorate

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setenv("KDGEN_APP_FOLDER", str(tmp_path))
    executing = module().lent()
    assert executing(["true"], tmp_path, 30.0) == 0
    assert executing([sys.executable, "-c", "raise SystemExit(2)"], tmp_path, 60.0) == 2
    assert durations == [65, 95]


@pytest.mark.skipif(find_spec("spaces") is None, reason="the package spaces is not installed: pip install spaces")
def test_the_package_spaces_reads_the_same_variable(tmp_path):
    """What `spaces` itself takes for ZeroGPU is what the Space does."""
    code = """
import os, zero
zero.without_cuda()
import kdgen.ui.app
for value in ("true", "1", "false", None):
    child = os.fork()
    if not child:
        os.environ.update({} if value is None else {"SPACES_ZERO_GPU": value})
        import spaces.config as config
        assert config.Config.zero_gpu == (value in ("true", "1")), value
        assert (zero.space_app().lent() is not None) == config.Config.zero_gpu, value
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, value
"""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
           "SPACES_ZERO_DEVICE_API_URL": "http://127.0.0.1:9"}  # fmt: skip
    subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, check=True)


def test_preloaded_students_are_offered(tmp_path):
    assert module().students() == []
    shutil.copy(SPACE / "app.py", tmp_path)
    (tmp_path / "students.json").write_text(json.dumps(["org/tiny@" + "0" * 40]))
    assert module(tmp_path).students() == ["org/tiny@" + "0" * 40]


@pytest.mark.parametrize(
    ("space", "mounted", "chosen", "folder", "lasting"),
    [
        (False, False, "", "runs/app", True),
        (True, False, "", "runs/app", False),
        (True, True, "", "data/kdgen", True),
        (True, True, "elsewhere", "elsewhere", False),
        (False, True, "", "runs/app", True),
    ],
)
def test_runs_go_to_persistent_storage_where_there_is_some(
    monkeypatch, tmp_path, space, mounted, chosen, folder, lasting
):
    storage = tmp_path / "data"
    if mounted:
        storage.mkdir()
    monkeypatch.setattr(limits, "STORAGE", storage)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPACE_ID", "acme/kdgen" if space else "")
    monkeypatch.setenv("KDGEN_APP_FOLDER", chosen)
    read = limits.Limits.read()
    assert tmp_path / read.folder == tmp_path / folder
    assert read.lasting == lasting
