"""The task that measures models."""

import pytest
from torch import nn

from kdgen.models.model import Model
from kdgen.tasks.infer_task import measuring_task
from kdgen.types import UserError

DIFFUSION = {"name": "diffuse", "size": 8, "channels": 1}


def model(name, **task):
    return Model(nn.Identity(), name=name, channels=1, task={**DIFFUSION, **task})


def test_a_student_of_few_steps_is_measured_as_it_draws():
    _, task = measuring_task({"few": model("few", sampler="euler", steps=[2, 4], table="cosine")}, None, num_images=300)
    assert (task.sampler, task.steps, task.table, task.num_images) == ("euler", (2, 4), "cosine", 300)


@pytest.mark.parametrize("other", [{}, {"sampler": "euler", "steps": [1]}, {"sampler": "consistency", "steps": [2]}])
def test_one_task_draws_for_all(other):
    few = model("few", sampler="consistency", steps=[1])
    with pytest.raises(UserError, match="few and other draw in different ways"):
        measuring_task({"few": few, "other": model("other", **other)}, None)
