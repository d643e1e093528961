"""A student and its teacher in one net, whose answer is a map of faults: what a finished run is used as."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from kdgen import registry
from kdgen.models.fault_maps import FeatureMaps, StudentTeacher
from kdgen.registry import Spec, register
from kdgen.types.arguments import Count

Described = Mapping[str, Any]
"""A net as ``{"name": ..., "args": {...}}``."""

STUDENT = {"name": "patch_features", "args": {"channels": 1, "features": 8, "width": 8, "depth": 0, "stride": 4}}
TEACHER = {"name": "feature_net", "args": {"width": 4, "classes": 0}}


@register("net")
def fault_detector(
    student: Described = STUDENT,
    teacher: Described = TEACHER,
    layer: str = "stages.1",
    features: Count = 8,
    range: tuple[float, float] | None = None,
) -> StudentTeacher:
    """A student and its teacher together: images to maps ``(B, 1, H, W)`` of where the student fails.

    Bergmann et al. 2020 (arXiv 1911.02357). What it knows comes with its weights, which ``kdgen faults --save`` writes.

    Args:
        student: the net that learned from good pictures.
        teacher: the net whose features it says.
        layer: the dotted path of the teacher's module whose output counts; empty for its answer.
        features: channels D of the features.
        range: values of black and white that the teacher reads; none for [-1, 1].
    """
    parts = [registry.build("net", Spec.model_validate(each)) for each in (student, teacher)]
    inner: nn.Module = parts[1]
    if range is not None:
        from kdgen.models.adapters.module import Foreign

        inner = Foreign(inner, range=range, predicts="image", latents="out")
    return StudentTeacher(parts[0], FeatureMaps(inner, layer or None, features))


__all__ = ["fault_detector"]
