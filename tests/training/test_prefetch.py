"""Batches that are read ahead, and teachers that are asked while the student learns."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident

import pytest
import torch
from safetensors.torch import load_file
from support import drain, interrupt, trained, weights
from torch import nn

from kdgen.recipe import Recipe
from kdgen.training import run
from kdgen.training.prefetch import ahead, answered, threads_for
from kdgen.training.teacher import Teacher
from kdgen.types import Batch, TeacherOutput
from kdgen.utils.devices import threads
from kdgen.utils.hooks import capture_outputs

Make = Callable[..., Recipe]

SETTINGS = (
    "controls=false", "cache.inputs=0", "steps=16",
    'stages=[{"share": 0.5, "methods": [{"name": "output"}]}, '
    '{"share": 0.5, "methods": [{"name": "output"}, {"name": "feature"}]}]',
)  # fmt: skip
"""The teacher asked at every step, at first for its output alone, then for features too."""


def numbers(read: list[int]) -> Iterator[tuple[Batch, TeacherOutput | None]]:
    """Batches that hold their number, noted as they are read; every third has an answer."""
    for number in itertools.count():
        read.append(number)
        x = torch.tensor([number])
        yield Batch(x=x), TeacherOutput(output=x) if number % 3 == 0 else None


@pytest.mark.parametrize("beside", [0, 1])
def test_reading_ahead_keeps_the_order_and_ends_with_its_reader(beside: int) -> None:
    read: list[int] = []
    with threads(2):
        stream = ahead(numbers(read), beside)
        assert [int(next(stream)[0].x) for _ in range(3)] == [0, 1, 2]
        assert torch.get_num_threads() == 2 - beside
        stream.close()
        assert torch.get_num_threads() == 2
    assert read in ([0, 1, 2], [0, 1, 2, 3])


def test_only_what_has_no_answer_is_asked_for() -> None:
    said = [
        answer for _, answer in itertools.islice(answered(numbers([]), lambda batch: TeacherOutput(output=-batch.x)), 4)
    ]
    assert [int(answer.output) for answer in said if answer is not None] == [0, -1, -2, 3]


@pytest.mark.parametrize(
    ("total", "teacher", "student", "together", "expected"),
    [
        (1, 1.0, 1.0, 0.1, 0),  # nothing to share out
        (2, 1.0, 1.2, 1.5, 1),
        (2, 1.0, 1.2, 2.3, 0),  # slower
        (8, 1.0, 3.0, 2.0, 2),
        (8, 1.0, 99.0, 2.0, 1),  # each has one at least
        (8, 99.0, 1.0, 2.0, 7),
    ],
)
def test_threads_are_shared_out_as_the_nets_need_them_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, total: int, teacher: float, student: float, together: float, expected: int
) -> None:
    taken = iter([teacher, student, together])
    calls: list[str] = []

    def timed(call: Callable[[], object], *args: object) -> list[float]:
        call()
        return [next(taken)]

    monkeypatch.setattr("kdgen.utils.devices.call_seconds", timed)
    with threads(total):
        assert threads_for(lambda: calls.append("teacher"), lambda: calls.append("student")) == expected
        assert torch.get_num_threads() == total
    assert sorted(calls) == sorted(["teacher", "student"] * 2 if total > 1 else [])


def test_a_teacher_asked_ahead_teaches_the_same(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, askers = Teacher.answer, set()

    def noting(
        self: Teacher, batch: Batch, paths: tuple[str, ...] = (), *, cached: TeacherOutput | None = None
    ) -> TeacherOutput:
        if cached is None:
            askers.add(get_ident())
        return answer(self, batch, paths, cached=cached)

    monkeypatch.setattr(Teacher, "answer", noting)
    with threads(2):
        for beside, name in ((0, "in turn"), (1, "ahead")):
            monkeypatch.setattr("kdgen.training.trainer.threads_for", lambda *nets, beside=beside: beside)
            askers.clear()
            trained(run.distill(make(*SETTINGS), tmp_path / name))
            assert askers - {get_ident()} if beside else askers == {get_ident()}
        assert torch.get_num_threads() == 2
    in_turn, asked_ahead = (load_file(tmp_path / name / "student/model.safetensors") for name in ("in turn", "ahead"))
    for key, value in in_turn.items():
        torch.testing.assert_close(asked_ahead[key], value, atol=1e-4, rtol=1e-3)


def test_how_the_teacher_is_asked_is_settled_once_and_lasts(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make(*SETTINGS)
    with threads(2):
        monkeypatch.setattr("kdgen.training.trainer.threads_for", lambda *nets: 1)
        trained(run.distill(recipe, tmp_path / "whole"))
        interrupt(recipe, tmp_path / "run", step=5)
        monkeypatch.setattr("kdgen.training.trainer.threads_for", lambda *nets: pytest.fail("tried again"))
        drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_what_cannot_be_tried_is_asked_in_turn(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*nets: object) -> int:
        raise RuntimeError("not enough memory")

    monkeypatch.setattr("kdgen.training.trainer.threads_for", fails)
    with threads(2):
        events = drain(run.distill(make(*SETTINGS), tmp_path / "run"))
    assert events[-1].kind == "done"
    (phase,) = [event.data for event in events if event.kind == "phase"]
    assert 0 < phase["tried"] < phase["seconds"]


def test_taps_do_not_see_what_another_thread_asks() -> None:
    net = nn.Sequential(nn.Identity())
    with capture_outputs(net, ["0"]) as seen, ThreadPoolExecutor(1) as other:
        net(torch.ones(1))
        other.submit(net, torch.zeros(1)).result()
    assert seen["0"].item() == 1
