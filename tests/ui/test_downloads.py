"""What may be downloaded of a run: as long as there is the run, and by nobody who only knows its name."""

import os
import time

import pytest
from gradio.route_utils import delete_files_created_by_app

from kdgen.ui import exports
from kdgen.ui.app import build
from kdgen.ui.estimates import Estimates
from kdgen.ui.job import Job, new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.models import Models
from kdgen.ui.preparing import Preparing
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import Codes


@pytest.fixture
def page(tmp_path):
    runs = Runs(Limits(folder=tmp_path), lambda *_: 0)
    models, preparing = Models(runs), Preparing(os.environ, runs.busy, enabled=False)
    yield runs, build(runs, models, Codes(), Estimates(tmp_path / "cache", preparing))
    models.end()
    preparing.close()
    runs.close()


def test_a_page_that_stays_open_can_download_for_as_long_as_there_is_the_run(page):
    """Gradio removes what it sent an hour ago; a run and its files are kept for days."""
    runs, blocks = page
    job = Job("0123456789ab", owner_of(new_session()), "denoise", "denoise", time.time(), state="done")
    runs._jobs[job.id] = job
    place = exports.served(runs) / job.place
    place.mkdir(parents=True)
    student, other = place / "denoise-student.zip", place.with_name("other.webp")
    for file in (student, other):
        file.write_bytes(b"x")
        for sent in blocks.temp_file_sets:
            sent.add(str(file))
    delete_files_created_by_app(blocks, -1)
    assert not other.exists()
    assert student.exists()
    runs._remove(job)
    assert not student.exists()


def test_the_name_of_a_run_does_not_tell_where_its_files_are():
    jobs = [Job("0123456789ab", owner_of(new_session()), "x", "x", 1.0) for _ in range(2)]
    assert jobs[0].place != jobs[1].place
    for job in jobs:
        assert job.id not in job.place
        assert job.owner not in job.place


def test_ncnn_is_offered_where_it_is_installed_for_nets_that_change_pictures(monkeypatch):
    every = ["onnx", "onnx-fp16", "int8", "safetensors-fp16"]
    monkeypatch.setattr(exports, "has_ncnn", lambda: True)
    assert sorted(exports.offered("restore")) == sorted([*every, "ncnn"])
    assert exports.offered("generate") == exports.offered() == every
    monkeypatch.setattr(exports, "has_ncnn", lambda: False)
    assert exports.offered("restore") == every
