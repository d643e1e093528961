"""What the Compare tab measures."""

import pytest

from kdgen.model import Model, load
from kdgen.types import UserError
from kdgen.ui import comparing


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
    with pytest.raises(UserError, match="name that first"):
        comparing.measured({"few": student, "diffusion": teacher})
