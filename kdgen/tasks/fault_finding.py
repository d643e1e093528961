"""Faults found in pictures by a finished run, or by the detector that was made of one."""

import torch
from torch import Tensor

from kdgen import recipe as recipes
from kdgen import registry
from kdgen.data import framed
from kdgen.models.fault_maps import FaultMaps, FeatureMaps, StudentTeacher
from kdgen.models.model import Model, load
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec
from kdgen.tasks.anomaly import Anomaly
from kdgen.tasks.infer_task import run_of
from kdgen.types import UserError, text
from kdgen.utils.devices import device_of


def open_detector(reference: str) -> Model:
    """A model whose net gives maps ``(B, 1, H, W)`` of faults: what ``save`` of one wrote, or made of a run folder.

    Of a run it is the student and the teacher that its recipe names, on the scale that its good pictures set.

    Args:
        reference: as for ``kdgen.load``.

    Raises:
        UserError: for a model without faults to find, or whose run is not at hand.
    """
    student = load(reference)
    if isinstance(student.net, FaultMaps):
        return student
    run = run_of(student)
    recipe = None if run is None else recipes.read(run)
    task = None if recipe is None else registry.build("task", recipe.task)
    if recipe is None or recipe.teacher is None or not isinstance(task, Anomaly):
        raise UserError(text("finds_no_faults", "{name} finds no faults: name the folder of a run of the task anomaly, "
                             "or a detector that was saved from one", name=student.name))  # fmt: skip
    teacher = load(recipe.teacher)
    maps = task.fault_maps(student.net, teacher.net)
    assert isinstance(maps, StudentTeacher)
    return _together(student, teacher, maps.eval(), recipe.teacher if isinstance(recipe.teacher, Checkpoint) else None)


def _together(student: Model, teacher: Model, maps: StudentTeacher, declared: Checkpoint | None) -> Model:
    """A student with its teacher as one model, which can be saved and needs nothing beside it.

    Args:
        student: built by name.
        teacher: built by name, or declared.
        maps: of both, calibrated.
        declared: the teacher's declaration, where it is one.

    Raises:
        UserError: for a teacher that no name and no declaration says how to build.
    """
    asked = maps.teacher
    use = declared.net if declared is not None and not declared.of_onnx else teacher.use
    if use is None or student.use is None or not isinstance(asked, FeatureMaps):
        raise UserError(text("no_detector", "{teacher} cannot be built by name, so that it cannot be saved beside its "
                             "student: find faults by the run folder", teacher=teacher.name))  # fmt: skip
    shift = None if declared is None else list(declared.range or (0.0, 1.0))
    made = Spec(name="fault_detector", args={
        "student": student.use.model_dump(), "teacher": use.model_dump(), "layer": asked.layer or "",
        "features": len(asked.get_buffer("mean")), "range": shift,
    })  # fmt: skip
    return Model(maps, name=student.name, channels=student.channels, task=student.task, use=made)


def find_faults(detector: Model, image: Tensor) -> tuple[float, Tensor, Tensor]:
    """Where a picture is unlike good ones.

    Args:
        detector: as ``open_detector`` gives it.
        image: ``(1, C, H, W)`` in [-1, 1], of the detector's channels.

    Returns:
        its score, the largest value of its map, of which one in 200 places of good pictures exceeds 0.1; the picture
        as the detector sees it, ``(1, C, size, size)``; and the map ``(1, 1, size, size)``.
    """
    x = framed(image, int(detector.task.get("size", image.shape[-1])))
    with torch.no_grad():
        found: Tensor = detector.net(x.to(device_of(detector)))
    return float(found.amax()), x, found.cpu()


__all__ = ["find_faults", "open_detector"]
