"""A process that stands ready: it runs what it is given as any other would, once."""

import subprocess
import sys
import time

import psutil
import pytest
from filelock import FileLock

from kdgen.presets import preset
from kdgen.training import timing
from kdgen.ui.estimates import GUESS
from kdgen.ui.preparing import Preparing, prepare, prepares
from kdgen.ui.process import EVENTS, environment, execute
from kdgen.ui.spare import Spare

LISTING = [sys.executable, "-m", "kdgen", "list", "presets"]


@pytest.fixture
def spare(tmp_path):
    made = Spare(environment(tmp_path / "cache"))
    yield made
    made.close()


def test_it_runs_a_command_in_its_home_and_is_replaced(spare, tmp_path):
    spare.prepare()
    first = spare._process.pid
    assert execute(LISTING, tmp_path, 120, env=spare.env, spare=spare) == 0
    assert "denoise" in (tmp_path / EVENTS).read_text()
    assert spare._process.pid != first
    assert spare._process.poll() is None


@pytest.mark.slow
def test_a_mistake_is_told_as_by_any_other_process(spare, tmp_path):
    spare.prepare()
    wrong = [*LISTING[:3], "distill", "nothing-of-this-name"]
    assert execute(wrong, tmp_path, 120, env=spare.env, spare=spare) == 2
    assert "kdgen: " in (tmp_path / "log.txt").read_text()


def test_one_that_died_is_done_without(spare, tmp_path):
    spare.prepare()
    spare._process.kill()
    spare._process.wait()
    assert execute(LISTING, tmp_path, 120, env=spare.env, spare=spare) == 0
    assert "denoise" in (tmp_path / EVENTS).read_text()


def test_what_an_ended_server_gave_it_is_not_begun(tmp_path):
    """The next server begins it, and two would work in one folder."""
    begun = (
        "import sys; from pathlib import Path; from kdgen.ui.process import environment; from kdgen.ui.spare import Spare; "
        f"home = Path({str(tmp_path)!r}); spare = Spare(environment(home)); spare.prepare(); "
        "process = spare.take(['list', 'presets'], home, home / 'out', home / 'errors'); "
        "print(process.pid, flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen([sys.executable, "-c", begun], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env=environment(tmp_path))  # fmt: skip
    pid = int(server.stdout.readline())
    server.kill()
    server.wait()
    until = time.monotonic() + 120
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert not (tmp_path / "out").exists()


def test_what_is_prepared_makes_way_for_a_run_at_once_and_goes_on_after_it(tmp_path):
    busy, cache = [True], tmp_path / "cache"
    preparing = Preparing(environment(cache), lambda: busy[0])
    recipe = preset("denoise").model_copy(update={"batch_size": 2})
    preparing.want(recipe)
    preparing.want(recipe)
    time.sleep(1)
    assert timing.known(recipe, cache) is None

    def filled(least):
        end = time.monotonic() + 300
        while (rates := timing.known(recipe, cache)) is None or rates.filled < least:
            assert time.monotonic() < end
            time.sleep(0.1)
        return rates.filled

    busy[0] = False
    before = filled(1)
    busy[0] = True
    begun = time.monotonic()
    for path in (cache / "answers").glob("*.lock"):
        FileLock(path).acquire(timeout=6).lock.release()
    assert time.monotonic() - begun < 6
    busy[0] = False
    assert filled(before + 1) > before
    preparing.close()


def test_what_a_run_corrected_is_not_undone(tmp_path, monkeypatch):
    recipe, rates = preset("denoise"), GUESS
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path))
    timing.keep(recipe, rates)

    def fill(recipe, folder):
        timing.keep(recipe, rates.model_copy(update={"runs": 1, "teacher": 99.0}))
        yield 7

    monkeypatch.setattr(timing, "fill", fill)
    prepare(recipe)
    known = timing.known(recipe)
    assert (known.runs, known.teacher, known.filled) == (1, 99, 7)


def test_nothing_is_prepared_where_the_accelerator_is_lent(monkeypatch):
    assert prepares(None)
    assert not prepares(lambda arguments, home, seconds: 0)
    monkeypatch.setenv("KDGEN_APP_PREPARE", "0")
    assert not prepares(None)
