"""The contract of tasks: all that the other rooms know of one, from its batches to its lines on the model card."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor
from torch.nn import functional as F

from kdgen.types.batch import Batch
from kdgen.types.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic import JsonValue
    from torch import Generator

    from kdgen.types import Both, Metrics, Net

DEFAULT_TASK = "denoise"
"""What a model was made for that does not say so: it restores images."""


@runtime_checkable
class Task(Protocol):
    """Where batches come from, what the ground truth is, how a result is measured, drawn and described.

    A task is a class that names this one as its base, and overrides what differs. What holds for all nets of a task
    stands on the class, where rooms below and above read it by the task's name, without building one. ``facts`` are
    what a model says of the task it was made for: what ``describe`` gave, or what its declaration says.

    Attributes:
        reads: what its nets are called on.
        gives: what they answer with.
        dense: whether an answer says something of each place of an image, at whatever stride: ``answer_shape`` says its
            channels, and of height and width how large a truth is.
        draws: what models of it make images of by ``draw_model``; None where they draw none.
        takes_sigma: whether its inputs are images under Gaussian noise, whose level in 8-bit units a user may name.
        takes_strength: whether they are images under damages, whose strength in [0, 1] a user may name.
        scales: whether its nets give larger images than they read, where the damage has made them smaller.
        taught_alone: whether there is never a truth, so that a teacher alone says what is right.
        tiled: whether a model may take a large image in tiles.
        half: which half of an autoencoder its nets are, ``whole`` for both together; None for other nets.
        alike: other tasks whose nets do this one too; it is enough that one of two tasks names the other.
        needed_facts: facts that a declaration of a net has to hold, or its net's own arguments.
        default_images: the source of images that it trains on where a recipe names none.
        pipeline_tag: the Hub's word for it.
        baseline_name: what tables call the input as an answer.
        group: under which of the app's headings it stands, ``denoiser`` say; None where the app does not offer it.
        usual_preset, usual_methods: with which preset the app begins, and the methods that make sense, the usual first.
        channels: of its images: 1 grey, 3 colour, or as many as a sensor gives.
        equivariant: whether an input flipped or rotated has the answer flipped or rotated.
        primary_metric, taught_primary_metric: the metric that decides which of two nets is better, without and with a
            teacher.
        quick_eval_images: number of images that tell enough during training; 0 on a class whose tasks count them.
        calls, teacher_calls: of a student and of the teacher, that make an image, at least 1.
        needs: conditions that a student has to read; others of its batches are merely offered.
        parts: the tasks that it consists of by name, the main one first, where a net's answer is about several things.
    """

    reads: ClassVar[Literal["images", "latents"]] = "images"
    gives: ClassVar[Literal["images", "latents", "logits", "features"]] = "images"
    dense: ClassVar[bool] = False
    draws: ClassVar[Literal["latents", "noise"] | None] = None
    takes_sigma: ClassVar[bool] = False
    takes_strength: ClassVar[bool] = False
    scales: ClassVar[bool] = False
    taught_alone: ClassVar[bool] = False
    tiled: ClassVar[bool] = True
    half: ClassVar[Literal["encoder", "decoder", "whole"] | None] = None
    alike: ClassVar[frozenset[str]] = frozenset()
    needed_facts: ClassVar[tuple[str, ...]] = ()
    default_images: ClassVar[str | None] = None
    pipeline_tag: ClassVar[str] = "image-to-image"
    baseline_name: ClassVar[Text] = text("role_input", "input")
    group: ClassVar[str | None] = None
    usual_preset: ClassVar[str | None] = None
    usual_methods: ClassVar[tuple[str, ...]] = (
        "output", "feature", "attention", "relation", "channel", "gradient", "perceptual", "adversarial",
    )  # fmt: skip

    channels: int
    equivariant: bool
    primary_metric: str
    taught_primary_metric: str
    quick_eval_images: int = 0
    calls: int = 1
    teacher_calls: int = 1
    needs: frozenset[str]
    parts: Mapping[str, Task] = MappingProxyType({})

    @property
    def teacher_channels(self) -> int:
        """The ``channels`` of what a teacher is shown."""
        return self.channels

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches on the CPU. Batch number ``start + i`` depends on ``seed`` and its number alone."""

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The same ground truth with the task's own randomness drawn anew: fresh noise, say."""

    def resample_view(self, batch: Batch, *, seed: int) -> Batch:
        """The same teacher's view, so that its answers hold, with what the student alone is shown drawn anew."""
        return batch

    def among_students(self) -> Task:
        """The task where a student teaches the next one of a chain, and is shown what students are."""
        return self

    def among_teachers(self) -> Task:
        """The task where a net is measured that is shown what the first teacher is, whoever that net is."""
        return self

    def fingerprint(self) -> str:
        """Changes whenever the task's batches would: the arguments, and the files behind them."""

    def describe(self) -> Mapping[str, JsonValue]:
        """What a published model says of the task it was made for."""

    def guided(self, teacher: Net) -> Net:
        """A teacher as it is asked and measured: under the guidance that the task is told of, where there is any."""
        return teacher

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """The task's own loss per image, ``(B,)``; None where there is no ground truth."""

    def read(self, out: Tensor, part: str) -> Tensor:
        """What an answer ``(B, ...)`` says of one of its ``parts``, as nets of that task alone answer."""
        raise NotImplementedError

    def about(self, batch: Batch, part: str) -> Batch:
        """A batch as a method sees it that is about one of its ``parts``: its truth, and what its teacher sees."""
        raise NotImplementedError

    def example(self) -> Batch:
        """One input, of the size at which the cost of a net is stated."""

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        """The shape of an answer to this batch, less the batch; None where only the teacher says what an answer is."""

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """Quality of a net on the first ``limit`` evaluation images; ``reference`` is the teacher to be near to."""

    def parity(self, net: Net, written: Net, *, teacher: Net | None = None, limit: int | None = None) -> Both:
        """Quality of a net and of what it was written as for another runtime; here as if the net taught both.

        Args:
            net: a student.
            written: what answers nearly the same.
            teacher: the student's, of a task whose answers are features where it is at hand.
            limit: the first so many evaluation images only.

        Returns:
            the figures of the one and of the other, by the same names.
        """
        own, theirs = (self.evaluate(each, reference=net, limit=limit) for each in (net, written))
        return {key: own[key] for key in theirs if key in own}, {key: theirs[key] for key in theirs if key in own}

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """A sentence on how the figures came about: on what, how many, which seed."""

    def baseline(self, batch: Batch) -> Tensor | None:
        """What a net has to beat: the input as an answer, ``(B, ...)``, resampled (bicubic) to the answer's size.

        None where the input is no answer.
        """
        shape, target = tuple(batch.x.shape[1:]), self.answer_shape(batch)
        if {self.reads, self.gives} != {"images"} or target is None or shape[:-2] != tuple(target[:-2]):
            return None
        if shape == tuple(target):
            return batch.x
        pictures = batch.x.float().flatten(0, -4)
        return F.interpolate(pictures, tuple(target[-2:]), mode="bicubic", antialias=True).view(-1, *target)

    def pictured(self, answer: Tensor) -> Tensor:
        """Answers or truths ``(B, ...)`` as images ``(B, C, H, W)`` in [-1, 1] to look at; here they are such."""
        return answer

    def captions(self, num_images: int) -> Sequence[str]:
        """What each of the first images that it draws was asked for, in words; nothing where nothing is asked."""
        return ()

    @classmethod
    def degrade(
        cls, images: Tensor, facts: Mapping[str, Any], *, sigma: float = 25.0, strength: float = 0.5, random: Generator
    ) -> Batch:
        """What a model of it is shown and told of clean images ``(B, C, H, W)`` in [-1, 1]: here these themselves.

        Args:
            images: clean ones, which are the truth of the batch, less what does not fit at their edges.
            facts: what the model says of its task.
            sigma: level of noise in 8-bit units, for a task that takes it.
            strength: of the damage in [0, 1], for a task that takes it.
            random: of the damage.
        """
        return Batch(x=images, y=images)

    @classmethod
    def images_in(cls, out: Tensor, facts: Mapping[str, Any]) -> Tensor:
        """The images ``(B, C, H, W)`` in what a model of it that changes images answers; here that is nothing else."""
        return out

    @classmethod
    def draw_model(
        cls,
        net: Net,
        facts: Mapping[str, Any],
        num_images: int,
        *,
        seed: int,
        num_steps: int | None,
        labels: Sequence[int] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Tensor:
        """Images of a model, ``(num_images, C, H, W)`` in [-1, 1] on the CPU, the same however many are drawn.

        Called where the class names what it ``draws`` of, with ``needed_facts`` and ``channels`` among the facts.

        Args:
            net: the model's.
            facts: what the model says of its task.
            num_images: how many.
            seed: of the latents or the noise.
            num_steps: of a sampler; what suits the model if None.
            labels: classes that are drawn in turn; all if None.
            progress: told how many are drawn, and of how many.
        """
        raise NotImplementedError

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """What is known of where a model of it fails, in a sentence of its card."""
        return "It does for other images than those it was trained on what nobody has measured."

    @classmethod
    def evaluation_source(cls, args: Mapping[str, Any]) -> Any:
        """The images that a task of these arguments is measured on, as a recipe describes them; None: the teacher's."""
        return args.get("evaluate") or args.get("images")
