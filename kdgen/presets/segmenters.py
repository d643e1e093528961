"""Small segmenters from published ones. The teachers' files are for you to get; they need no labels but the teacher's.

Paths are relative to where the command runs. Each preset says what to put there; what it is measured on lies in a
folder of its own, so that nothing is measured on what it was trained on. For figures against the truth beside those
against the teacher, and controls, name `label_maps` in place of the folders.
"""

from typing import Any

from pydantic import JsonValue

from kdgen.recipe import CacheSpec, Checkpoint, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "void",
)  # fmt: skip
"""The classes of ESPNet's 20 logits: the 19 that are measured on Cityscapes, and all else."""

SAID = (Guidance(name="logits", args={"temperature": 1.0}),)
"""The teacher's probabilities at each place."""


def folder(path: str, **args: JsonValue) -> dict[str, JsonValue]:
    """Pictures in a folder as a source of images."""
    return {"name": "folder", "args": {"path": path, **args}}


def beside_photographs(images: JsonValue, share: float) -> dict[str, JsonValue]:
    """A share of these images, the others from the bundled photographs."""
    return {"name": "mixture", "args": {"sources": [images, {"name": "photographs"}], "weights": [share, 1 - share]}}


def published(file: str, url: str, net: str, names: tuple[str, ...]) -> Checkpoint:
    """A segmenter that somebody published, whose net reads images in [-1, 1] and normalises them itself."""
    task: dict[str, JsonValue] = {"name": "segment", "num_classes": len(names), "names": [*names]}
    return Checkpoint(name=net, file=file, url=url, net=Spec(name=net), range=(-1.0, 1.0), task=task)


def segmenter(name: str, teacher: Checkpoint, student: dict[str, Any], *, inputs: int, **task: Any) -> Recipe:
    """A small segmenter that gives each place the teacher's class, in two minutes of training."""
    settled = {key: teacher.task[key] for key in ("num_classes", "names")}
    return Recipe(
        name=name,
        task=Spec(name="segment", args={**settled, **task}),
        teacher=teacher,
        student=Spec(name="segmenter", args=student),
        stages=(Stage(methods=SAID, optimizer="muon", lr=5e-3),),
        seconds=120,
        batch_size=8,
        ema=0.99,
        precision="float32",  # depthwise convolutions are slow in bfloat16 on CPUs
        cache=CacheSpec(inputs=inputs),
    )


@register("preset")
def segment_street() -> Recipe:
    """A small segmenter of streets from ESPNet: `espnet_p_2_q_8.pth`, and frames of 1024x512 in `streets`.

    `streets` holds frames of a camera in a car to train on, and `streets-test` others to measure on: the more of both,
    the better. Bundled photographs are among what it is trained on.
    """
    url = "https://github.com/sacmehta/ESPNet/blob/master/pretrained/decoder/espnet_p_2_q_8.pth"
    teacher = published("espnet_p_2_q_8.pth", url, "espnet", CITYSCAPES)
    frames = folder("streets", scales=[1.0, 0.75], jitter={"scale": 0.25, "colour": 0.2})
    images = beside_photographs(frames, 0.75)
    recipe = segmenter("segment-street", teacher, {"widths": [24, 48, 64], "blocks": 2}, inputs=300, patch=256,
                       images=images, evaluate=folder("streets-test"), longest_side=1024)  # fmt: skip
    return recipe.model_copy(update={"batch_size": 4})


@register("preset")
def segment_portrait() -> Recipe:
    """A tiny segmenter of people from SINet: `SINet.pth`, and portraits in `portraits`.

    `portraits` holds pictures of single people from the chest up to train on, and `portraits-test` others to measure
    on. Pictures are framed in squares of 224 pixels, as the teacher was trained. Bundled photographs are among what it
    is trained on, for what is no person.
    """
    url = "https://github.com/clovaai/ext_portrait_segmentation/blob/master/result/SINet/SINet.pth"
    teacher = published("SINet.pth", url, "sinet", ("background", "person"))
    jitter: JsonValue = {"scale": 0.2, "shift": 0.1, "rotation": 10.0, "colour": 0.2}
    images = beside_photographs(folder("portraits", whole=True, jitter=jitter), 0.7)
    return segmenter("segment-portrait", teacher, {"widths": [8, 16, 24], "blocks": 1}, inputs=1500, patch=224,
                     images=images, evaluate=folder("portraits-test"), longest_side=224)  # fmt: skip


@register("preset")
def vessels() -> Recipe:
    """A small segmenter of retinal vessels from the little W-Net: `model_checkpoint.pth`, photographs in `retinas`.

    The file is that of `experiments/wnet_drive`. `retinas` holds photographs of the eye's fundus, cut to its disc and
    shrunk to 512x512 pixels, to train on, and `retinas-test` others to measure on.
    """
    url = "https://github.com/agaldran/lwnet/blob/master/experiments/wnet_drive/model_checkpoint.pth"
    teacher = published("model_checkpoint.pth", url, "wnet", ("background", "vessel"))
    teacher = teacher.model_copy(update={"key": "model_state_dict"})
    return segmenter("vessels", teacher, {"widths": [12, 16, 24], "blocks": 1, "stride": 1}, inputs=1500, patch=128,
                     images=folder("retinas"), evaluate=folder("retinas-test"), turn="all",
                     longest_side=512)  # fmt: skip
