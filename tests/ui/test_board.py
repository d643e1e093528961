"""The board: one's own runs, those that others show, and the one that comes with the app; never anybody else's."""

import json
import shutil

import pytest

from kdgen.types import UserError
from kdgen.ui import board, sharing
from kdgen.ui.job import new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.runs import Runs
from kdgen.ui.showcase import EXAMPLE, FOLDER
from kdgen.ui.visitors import accept
from kdgen.ui.words import ENGLISH

MINE, OTHERS = new_session(), new_session()
IDS = {"aaaaaaaaaaaa": MINE, "bbbbbbbbbbbb": OTHERS, "cccccccccccc": OTHERS}


@pytest.fixture
def runs(tmp_path):
    for number, (id, owner) in enumerate(IDS.items()):
        home = tmp_path / "runs" / id
        shutil.copytree(EXAMPLE, home / "run", ignore=shutil.ignore_patterns(FOLDER))
        report = json.loads((home / "run" / "report.json").read_text())
        student = next(row for row in report["rows"] if row["role"] == "student")
        student["metrics"]["psnr"] = 25.0 + number
        (home / "run" / "report.json").write_text(json.dumps(report))
        job = {"id": id, "owner": owner_of(owner), "name": "denoise", "task": "denoise", "created": 1.0 + number,
               "ended": 9e9, "state": "done", "message": ""}  # fmt: skip
        (home / "job.json").write_text(json.dumps(job))
    made = Runs(Limits(folder=tmp_path), lambda *_: 0)
    yield made
    made.close()


def test_others_stand_there_only_where_they_want_to(runs):
    assert [place.key for place in board.places(runs, MINE)] == ["run:aaaaaaaaaaaa", "example"]
    assert [place.key for place in board.places(runs, "")] == ["example"]
    token = sharing.share(runs, "bbbbbbbbbbbb", OTHERS)
    found = board.ranked(board.places(runs, MINE), "denoise")
    assert [place.key for place in found] == ["example", f"share:{token}", "run:aaaaaaaaaaaa"], "the best first"
    assert [place.origin for place in found] == ["comes_with", "shown_by_others", "mine"]
    text = board.drawn(found, ENGLISH)
    assert text.count("<circle") == 3
    assert f'href="r/{token}"' in text
    assert "cccccccccccc" not in text
    assert board.ranked(found, "gan") == []
    sharing.revoke(runs, "bbbbbbbbbbbb", OTHERS)
    assert len(board.places(runs, MINE)) == 2


def test_who_was_measured_otherwise_is_not_ranked_among_them(runs):
    """Little noise, or flat pictures of one's own, would come out on top."""
    path = runs.folder / "aaaaaaaaaaaa" / "run" / "report.json"
    report = json.loads(path.read_text())
    report["task"] = report["task"].replace("sigma=25", "sigma=1")
    next(row for row in report["rows"] if row["role"] == "student")["metrics"]["psnr"] = 60.0
    path.write_text(json.dumps(report))
    found = board.places(runs, MINE)
    assert len(found) == 2
    assert [place.key for place in board.ranked(found, "denoise")] == ["example"]


def test_a_recipe_begins_a_run_only_where_it_may_be_seen(runs):
    token = sharing.share(runs, "bbbbbbbbbbbb", OTHERS)
    for key in ("example", f"share:{token}", "run:aaaaaaaaaaaa"):
        assert accept(board.recipe_text(runs, key, MINE), MINE, runs).name == "denoise"
    for key in ("run:bbbbbbbbbbbb", "run:cccccccccccc", "share:cccccccccccc-" + "a" * 22, "", "run:", "share:x"):
        with pytest.raises(UserError):
            board.recipe_text(runs, key, MINE)
