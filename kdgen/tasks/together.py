"""Two tasks in one net, in one pass: restore an image, and say what is on it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Annotated, Any

import torch
from pydantic import Field, JsonValue
from torch import Tensor, nn

from kdgen import registry
from kdgen.data import generator
from kdgen.models.task_arguments import task_class
from kdgen.models.teachers import PartNet
from kdgen.registry import Spec, register
from kdgen.tasks.restoration import Restoration
from kdgen.types import Batch, Metrics, Net, Task, Text, UserError, text
from kdgen.types.arguments import Count
from kdgen.utils.conditions import call
from kdgen.utils.devices import device_of, evaluating

TwoTasks = Annotated[
    Mapping[str, Mapping[str, Any] | Spec],
    Field(min_length=2, max_length=2,
          description='two tasks by names of your own, {"restore": {"name": ..., "args": {...}}, "classify": {...}}'),
]  # fmt: skip
Weights = Annotated[Mapping[str, Annotated[float, Field(ge=0)]], Field(description="numbers of at least 0 by name")]


@register("task")
class Together(Task):
    """Restore images and say what is on them, in one pass of one net; each of the two may have a teacher of its own.

    A net answers with one map ``(B, C + K, H, W)``: its first C channels are the restored images, the other K the
    logits of each pixel. Logits of whole images are the means of these over all places (global average pooling last,
    Lin et al. 2013, arXiv 1312.4400, section 3.2).

    Images are those of the second task, damaged as the first one says. A method compares the part that it names, or
    that is called as its teacher is; the main teacher is one of the first task. Teachers of the second task see the
    images before they were damaged, where the student does not.

    Args:
        tasks: two by name: first one that restores, whose figure decides, then one that tells classes, of whole images
            or of pixels. Where the first names no images to evaluate on, they are those of the second.
        weights: of their own losses, by name; 1 each if not given.
        num_images: how many images the first is measured on at most.

    Raises:
        UserError: for tasks that do not go together.
    """

    pipeline_tag = "image-to-image"
    quick_eval_images = 500

    def __init__(self, tasks: TwoTasks | None = None, weights: Weights | None = None, num_images: Count = 200) -> None:
        if tasks is None:
            raise UserError(text("together_tasks", 'together: name two tasks, {{"restore": {{"name": "denoise"}}, '
                                 '"classify": {{"name": "classify", "args": {{"images": ...}}}}}}'))  # fmt: skip
        self.first, self.second = tasks
        uses = {name: Spec.model_validate(use) for name, use in tasks.items()}
        told: Task = registry.build("task", uses[self.second])
        if told.example().teacher_x is not None:
            raise UserError(text("together_views", "together: its parts have no views of their own: wrap together "
                                 "itself in the task {task}, and name in it what {name} wraps", name=self.second,
                                 task=uses[self.second].name))  # fmt: skip
        self.main = _damaging(self.first, uses[self.first], uses[self.second], told.channels)
        self.parts = {self.first: self.main, self.second: told}
        self.channels, self.num_images = self.main.channels, num_images
        shape = told.answer_shape(told.example())
        if shape is None or told.gives != "logits" or told.channels != self.channels:
            raise UserError(text("together_second", "together: {name} is to tell classes of images of {channels} "
                                 "channels: set its task to classify, say, its channels to {channels}",
                                 name=self.second, channels=self.channels))  # fmt: skip
        self.num_classes, self.pooled = shape[0], len(shape) == 1
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in self.parts}
        if unknown := sorted((weights or {}).keys() - self.parts.keys()):
            raise UserError(text("together_weights", "together: weights names {unknown:, }, and the tasks are "
                                 "{names:, }", unknown=unknown, names=list(self.parts)))  # fmt: skip
        self.equivariant = all(part.equivariant for part in self.parts.values())
        self.primary_metric, self.taught_primary_metric = self.main.primary_metric, self.main.taught_primary_metric
        self.needs = self.main.needs

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches: the second task's, their images ``x`` damaged by the first, and these as they were ``y``."""
        clean = self.parts[self.second].batches(batch_size=batch_size, seed=seed, start=start)
        for number, batch in zip(count(start), clean, strict=False):
            x, cond = self.main.damage(batch.x, generator(seed, "damage", number))
            truths = {} if batch.y is None else {self.second: batch.y}
            yield Batch(x=x, y=batch.x, cond=cond, truths=truths, part_x={self.second: batch.x})

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The same images damaged anew."""
        return self.main.resample_noise(batch, seed=seed)

    def read(self, out: Tensor, part: str) -> Tensor:
        """Images ``(B, C, H, W)``, or logits ``(B, K, H, W)``, of whole images their means ``(B, K)``."""
        if part == self.first:
            return out[:, : self.channels]
        logits = out[:, self.channels :]
        return logits.mean((-2, -1)) if self.pooled else logits

    def about(self, batch: Batch, part: str) -> Batch:
        """The batch with the truth of a part, and what its teacher sees."""
        own: dict[str, Any] = (
            {} if part == self.first else {"y": batch.truths.get(part), "teacher_x": batch.part_x.get(part)}
        )
        return replace(batch, truths={}, part_x={}, **own)

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """The weighted sum of the losses of both tasks, ``(B,)``, as far as there is a truth; None without any."""
        losses = []
        for name, part in self.parts.items():
            seen = self.about(batch, name)
            own = None if seen.y is None else part.loss(self.read(out, name), seen)
            losses += [] if own is None else [self.weights[name] * own]
        return torch.stack(losses).sum(0) if losses else None

    def example(self) -> Batch:
        """A flat image of the size that the second task is about."""
        x, cond = self.main.damage(self.parts[self.second].example().x, generator(0), self.main.middle)
        return Batch(x=torch.zeros_like(x), cond=cond)

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        """``(C + K, H, W)``."""
        _, *size = self.main.answer_shape(batch)
        return self.channels + self.num_classes, *size

    def baseline(self, batch: Batch) -> Tensor | None:
        """The first task's."""
        return self.main.baseline(batch)

    def pictured(self, answer: Tensor) -> Tensor:
        """The restored images."""
        return answer[:, : self.channels]

    @classmethod
    def images_in(cls, out: Tensor, facts: Mapping[str, Any]) -> Tensor:
        """The restored images."""
        return out[:, : facts.get("channels", 3)]

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """The first task's images, damaged, and their truth."""
        return self.main.evaluation_images(seed=seed, limit=limit)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """The figures of the first task, and of the second those that it has beside, on damaged images too.

        A net that answers with images alone, the main teacher say, is measured by the first task alone.

        Args:
            net: any net of both tasks, or of the first.
            reference: the teacher.
            seed: of the damage.
            limit: the first so many images only; for the first task no more than ``num_images``.
        """
        most = min(limit or self.num_images, self.num_images)
        first, second = (PartNet(net, self, name) for name in self.parts)
        taught = first if net is reference else reference and PartNet(reference, self, self.first)
        figures = self.main.evaluate(first, reference=taught, seed=seed, limit=most)
        example = self.example().to(device_of(net))
        with evaluating(net):
            if call(net, example.x, example.cond).shape[1] == self.channels:
                return figures
        return {**self.parts[self.second].evaluate(_Damaging(second, self.main, seed), seed=seed, limit=limit),
                **figures}  # fmt: skip

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """How each of the two is measured."""
        told = self.parts[self.second].describe_evaluation(seed=seed)
        return text("measured_together", "{first} {second} The student sees these images damaged likewise.",
                    first=self.main.describe_evaluation(reference=reference, seed=seed), second=told)  # fmt: skip

    def describe(self) -> Mapping[str, JsonValue]:
        """Name, channels, classes, size of the images, and what each task says of itself."""
        about: list[JsonValue] = [{"part": name, **_as_use(part.describe())} for name, part in self.parts.items()]
        return {"name": "together", "channels": self.channels, "num_classes": self.num_classes,
                "size": self.parts[self.second].example().x.shape[-1], "parts": about}  # fmt: skip

    def fingerprint(self) -> str:
        """A hash of those of both tasks."""
        known = {name: part.fingerprint() for name, part in self.parts.items()}
        return hashlib.sha256(json.dumps([self.describe(), known], sort_keys=True).encode()).hexdigest()

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """Those of both tasks."""
        parts = [{"name": each["name"], **each["args"]} for each in facts.get("parts", ())]
        return " ".join(task_class(each).limits(each) for each in parts) or super().limits(facts)

    @classmethod
    def evaluation_source(cls, args: Mapping[str, Any]) -> Any:
        """The second task's."""
        *_, last = (args.get("tasks") or {"": {}}).values()
        return task_class(last).evaluation_source(last.get("args", {}))


def _as_use(facts: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {"name": facts["name"], "args": {key: value for key, value in facts.items() if key != "name"}}


class _Damaging(nn.Module):
    """A net that is shown what a task makes of the clean images that it is asked about, each call with other noise."""

    def __init__(self, net: Net, task: Restoration, seed: int) -> None:
        super().__init__()
        self.net, self.task, self.seed, self.calls = net, task, seed, count()

    def forward(self, x: Tensor) -> Tensor:
        """The net's answer to ``x`` ``(B, C, H, W)`` damaged as the task evaluates, in the middle of its levels."""
        damaged, cond = self.task.damage(x.cpu(), generator(self.seed, "shown", next(self.calls)), self.task.middle)
        batch = Batch(x=damaged, cond=cond).to(device_of(self.net))
        return call(self.net, batch.x, batch.cond)


def _damaging(name: str, use: Spec, second: Spec, channels: int) -> Restoration:
    """The first task, on the images of the second. Raises UserError for one that damages nothing.

    Its own images to train on are not drawn: the second's are damaged in their place.
    """
    kind = task_class({"name": use.name})
    if not (isinstance(kind, type) and issubclass(kind, Restoration)):
        raise UserError(text("together_first", "together: {name} is to restore what was damaged, and {task} does not: "
                             "set its task to denoise or restore", name=name, task=use.name))  # fmt: skip
    images = second.args.get("images") or second.args.get("evaluate")
    shared = {"images": images, "evaluate": task_class({"name": second.name}).evaluation_source(second.args)}
    known = {"channels": channels, **{key: value for key, value in shared.items() if value is not None}}
    built: Restoration = registry.build("task", Spec(name=use.name, args={**known, **use.args}))
    if built.given or built.both or "images" in use.args:
        raise UserError(text("together_given", "together: {name} damages the images of the other task itself, grey or "
                             "colour ones: leave out images, and set channels to 1 or 3", name=name))  # fmt: skip
    return built


__all__ = ["Together"]
