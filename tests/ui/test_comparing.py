"""What the Compare tab measures."""

import pytest

from kdgen.models.model import Model, load
from kdgen.types import UserError
from kdgen.ui import comparing
from kdgen.ui.comparing import Options
from kdgen.ui.limits import Limits


def test_a_student_of_few_steps_is_measured_in_its_steps_beside_its_teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(comparing, "MEASURED", 8)
    teacher = load("diffusion")
    student = Model(load("diffusion").net, name="few", channels=1,
                    task={**teacher.task, "sampler": "euler", "steps": [2]})  # fmt: skip
    calls = []
    student.net.register_forward_hook(lambda *_: calls.append(1))
    report = comparing.measured({"diffusion": teacher, "few": student})
    first, second = report.rows
    assert (first.calls, second.calls) == (35, 2)
    assert len(calls) < 60, "counting MACs and timing, and two steps for its images"
    header, (_, cells) = report.table()
    assert cells[header.index("fewer MACs")] == cells[header.index("faster")] == "17.5x", "the same net, 35 calls for 2"
    with pytest.raises(UserError, match="name that first"):
        comparing.measured({"few": student, "diffusion": teacher})


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("sigma", "seed", "num_images", "num_steps")
     for value in (float("nan"), float("inf"), -1, 1e30, None, "5", True)]
)  # fmt: skip
def test_every_number_of_a_comparison_is_bounded(name, value):
    good = {"sigma": 25, "seed": 0, "num_images": 16, "num_steps": 1.0}
    asked = Options.within(Limits(), **good)
    assert (asked.seed, asked.num_images, asked.num_steps) == (0, 16, 1)
    with pytest.raises(UserError, match=f"{name} is a number in"):
        Options.within(Limits(), **{**good, name: value})
