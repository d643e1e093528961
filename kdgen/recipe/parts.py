"""What a recipe consists of: declared checkpoints, stages and their terms, assistants, the teacher's cached answers."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, PositiveInt, field_validator, model_validator

from kdgen.registry import Spec
from kdgen.types import text
from kdgen.utils.references import FilePath, Names
from kdgen.utils.schema import Strict

ONNX = "onnx"
"""How files end, less the dot, that hold a net as a graph; and what stands for their net."""

RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""Values that the images of other people's nets take."""


class Checkpoint(Strict):
    """A net that somebody else trained, declared: its file, its architecture, and how it speaks."""

    name: str | None = Field(None, description="what to call it in tables; default the file's name")
    file: FilePath = Field(
        description="weights file: .safetensors, what torch.save wrote, .npz, or an .index.json (never unpickled)"
    )
    url: str | None = Field(None, description="where to get the file, for who does not have it; nothing is fetched")
    net: Spec = Field(Spec(name=ONNX), description="the architecture, see `kdgen list nets`; an .onnx file holds it")
    range: tuple[float, float] | None = Field(
        None,
        description="values its images take: [0, 1], [-1, 1] or [0, 255]; none: [0, 1], of .onnx what suits a picture",
    )
    predicts: Literal["image", "residual"] = Field("image", description="what it gives: the image, or what to subtract")
    multiple: int | None = Field(None, ge=1, description="of its images' height and width; none: found by trying")
    min_size: int | None = Field(None, ge=1, description="their least height and width; none: found by trying")
    size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = Field(None, description="their one size, h or [h, w]")
    prefix: str = Field("", description="prefix of its keys, dropped before loading")
    rename: dict[str, str] | None = Field(None, description="how its keys begin, to what that becomes; no others stay")
    key: str | None = Field(None, description="where in it the weights are, dotted if nested; an average by default")
    task: dict[str, JsonValue] = Field(
        {}, description='e.g. {"name": "generate", "latent": [100]}; none: restoring images'
    )
    output_range: tuple[float, float] | None = Field(
        None, description="of an .onnx file: values its answers take, likewise"
    )
    layout: Literal["nchw", "nhwc"] | None = Field(
        None, description="of an .onnx file: the order of its axes, likewise"
    )
    inputs: dict[str, JsonValue] = Field(
        {}, description="of an .onnx file: what inputs beside the image are, a number or nested lists of numbers"
    )
    output: str | None = Field(None, description="of an .onnx file: which of its outputs is the image")

    @field_validator("range", "output_range")
    @classmethod
    def _known_range(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError(text("no_range", "range is the value of black and, above it, that of white: [0, 1], "
                                  "[-1, 1] or [0, 255], say"))  # fmt: skip
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.of_onnx:
            if self.net.name != ONNX or self.prefix or self.rename or self.key:
                raise ValueError(text("onnx_holds_net", "an .onnx file holds its net: leave out net, prefix, rename "
                                      "and key"))  # fmt: skip
        elif self.net.name == ONNX:
            raise ValueError(text("net_missing", "net is missing: say the architecture, see `kdgen list nets`"))
        return self

    @property
    def of_onnx(self) -> bool:
        """Whether the file is an ONNX file, which holds weights and net."""
        return self.file.endswith(f".{ONNX}")


class Term(Spec):
    """A method or an objective, and its weight in the loss of a stage."""

    weight: float = Field(1.0, ge=0, description="weight in its side of the loss; an adaptive ratio scales it further")


class Guidance(Term):
    """A method, its weight, and the teacher whose knowledge it moves."""

    teacher: str | None = Field(None, description="which of the recipe's `teachers`; none: `teacher` itself")
    part: str | None = Field(
        None,
        description="of a task of several parts, which of them it compares; none: the one called as its teacher is, or "
        "else the main one",
    )


Weighting = Literal["confidence", "agreement"]


class Stage(Strict):
    """A stretch of training. With methods it transfers; without, it trains on the task's own loss and objectives."""

    name: str = Field("transfer", description="shown in progress, curves and reports")
    share: float = Field(1.0, gt=0, le=1, description="share of the run's steps or seconds; shares are normalised")
    methods: tuple[Guidance, ...] = Field((), description="how knowledge moves, see `kdgen list methods`")
    weighting: Weighting | None = Field(
        None,
        description="how much each example counts in methods of several teachers of one thing: confidence, by how sure "
        "its own teacher is beside the others; agreement, by how alike all of them answer; null: equally",
    )
    objectives: tuple[Term, ...] = Field(
        (), description="terms of the student's own loss beside its distance to the truth, see `kdgen list objectives`"
    )
    truth: bool = Field(
        True,
        description="whether the task's own loss counts beside objectives; without it a stage can be of these alone",
    )
    ratio: Spec = Field(
        Spec(name="fixed", args={"alpha": 1.0}),
        description="the distillation ratio alpha in [0, 1], see `kdgen list ratios`: 1 is the teacher alone, below it "
        "objectives and the ground truth count too; alpha is 0 without methods",
    )
    optimizer: Literal["adamw", "sgd", "muon"] = Field(
        "adamw", description="adamw; sgd with momentum 0.9; or muon for the inner weights and adamw for the rest"
    )
    lr: float = Field(2e-3, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's averaging of gradients and their squares")
    discriminator_lr: float = Field(2e-4, gt=0, description="peak, of discriminators, by AdamW with betas 0 and 0.99")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the stage in which the rate rises from 0")
    decay: Literal["cosine", "linear", "none"] = Field("cosine", description="how the rate falls after the warm-up")
    final: float = Field(0.0, ge=0, le=1, description="the rate at the end of the stage, as a share of the peak")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 clips nothing")

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not (self.truth or self.methods or self.objectives):
            raise ValueError(text("stage_of_nothing", "a stage without truth has methods or objectives to learn from: "
                                  "name some, or set truth to true"))  # fmt: skip
        return self


OF_TEACHER = ("teacher", "copy")
"""First weights that are the teacher's: what matters most of it, made to mean the same; or as they are."""

STARTS = ("random", *OF_TEACHER)
"""First weights that are no other model's."""

Start = Annotated[str | Checkpoint, Names("model", but=STARTS)]


class Assistant(Strict):
    """A net between teacher and student: taught by the one before it, it teaches the one after it."""

    student: Spec = Field(description="the net, see `kdgen list nets`")
    share: float = Field(0.5, gt=0, lt=1, description="its share of the steps or seconds of the whole recipe")
    init: Start = Field("random", description="first weights, as for the student")
    stages: tuple[Stage, ...] | None = Field(None, min_length=1, description="how it is trained; none: as the student")


class CacheSpec(Strict):
    """The teacher's cached answers: a fixed set of inputs, asked once, kept on disk and shared between runs."""

    inputs: int = Field(4000, ge=0, description="number of inputs; 0 asks the teacher anew at every step")
    share: float | None = Field(
        0.25, gt=0, le=1, description="most of a run's seconds for asking: a short run uses those asked by then, and "
        "the next one asks on; null asks about all, as far as training keeps a third"
    )  # fmt: skip
    augment: bool = Field(
        True,
        description="flip and rotate inputs, where the task allows it: at every step, the answer with them, if the "
        "teacher's answers were measured to follow; else once, before it is asked",
    )
    crop: int | None = Field(
        None, ge=8, description="train on random crops of this many pixels, taken likewise; none: whole patches"
    )
    dir: Annotated[str | None, Names("path")] = Field(None, description="default $KDGEN_CACHE or ~/.cache/kdgen")
    seed: int = Field(0, ge=0, description="seed of the inputs; apart from the run's, so that seeds share a cache")
    max_gib: float = Field(
        8.0,
        gt=0,
        description="all caches together are kept under this size: those used longest ago go first, those in use stay",
    )


class Memory(Strict):
    """What the training of the student does with less memory. By default nothing, which is fastest."""

    checkpointing: bool = Field(
        False,
        description="blocks of the student keep what they read alone, and are computed once more for their gradients "
        "(Chen et al. 2016): a step takes about a third longer",
    )
    optimizer_states: Literal["float32", "int8"] = Field(
        "float32", description="what AdamW keeps of each weight: int8 a quarter, by torchao, of the extra kdgen[memory]"
    )
    weights: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the student: bfloat16 computes in it, keeps weights that do not learn in half the memory, and "
        "has those that do stand in float32 beside, where the optimiser steps them (Micikevicius et al. 2018)",
    )
