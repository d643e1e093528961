"""How near an exported net comes to the student, and what it saves: measured, and written beside the file."""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from kdgen.export.graph import Signature
from kdgen.export.inputs import at_sizes, evaluation_inputs
from kdgen.metrics import cost
from kdgen.models.model import Model
from kdgen.tasks.infer_task import teacher_of
from kdgen.types import Batch, Task, UserError, text
from kdgen.utils.conditions import call
from kdgen.utils.convert import write_text
from kdgen.utils.devices import evaluating, machine
from kdgen.utils.schema import Strict

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Answers of a student ``(B, ...)``, each beside that of what was exported."""

PACKAGES = ("kdgen", "torch", "onnx", "onnxruntime", "ncnn", "pnnx")


class Agreement(Strict):
    """Two answers to one input."""

    shape: tuple[int, ...] = Field(description="of the input")
    max_abs_error: float = Field(description="largest difference of the outputs; images are in [-1, 1]")
    psnr: float | None = Field(description="as that of all")


class Parity(Strict):
    """What stands beside an exported file."""

    format: Literal["onnx", "onnx-fp16", "ncnn", "torch-export", "safetensors-fp16", "int8", "taesd"] = Field(
        description="of the file"
    )
    file: str = Field(description="its name")
    student: str = Field(description="the model that it was made from")
    fingerprint: str = Field(description="hash of that model's architecture and weights")
    inputs: dict[str, list[str | int]] = Field(description="shapes of its inputs; words are free sizes")
    agreement: list[Agreement] = Field(description="on inputs of the task, of even and of odd sizes")
    max_abs_error: float = Field(description="the largest of all")
    largest: float = Field(1.0, description="the largest value of the student's outputs; of images 1, of logits more")
    psnr: float | None = Field(
        description="of all images to the student's in dB, peak 2; none where they are equal, or answers are no images"
    )
    relative_error: float | None = Field(
        None, description="of answers that are no images: the length of their difference as a share of the student's"
    )
    same_class: float | None = Field(None, description="the share of logits whose class is the student's")
    bytes: tuple[int, int] = Field(description="size of the student in float32 and of what was exported")
    latency_ms: tuple[float, float] = Field(description="one call of the student in torch, and of what was exported")
    latency_shape: tuple[int, ...] = Field(description="of the input of that call")
    threads: int = Field(description="of both")
    primary_metric: str | None = Field(None, description="the metric that decides for its task")
    quality: dict[str, tuple[float, float]] = Field({}, description="figures of its task: the student's, the export's")
    measured: str | None = Field(None, description="how these came about")
    machine: str = Field(description="where all this was measured")
    versions: dict[str, str] = Field(description="of the packages")

    @property
    def near(self) -> dict[str, str]:
        """How near all answers are, written for tables: ``psnr``, ``relative_error``, ``same_class``, as far as known.

        Last comes ``largest``, the largest difference: in 8-bit units of images, of others beside their largest value.
        """
        written = {
            "psnr": None if self.psnr is None else f"{self.psnr:.1f} dB",
            "relative_error": None if self.relative_error is None else f"{100 * self.relative_error:.2g} %",
            "same_class": None if self.same_class is None else f"{self.same_class:.2%}",
            "largest": f"{127.5 * self.max_abs_error:.2g} / 255" if self.relative_error is None else
                       f"{self.max_abs_error:.2g} / {self.largest:.3g}",
        }  # fmt: skip
        return {key: figure for key, figure in written.items() if figure is not None}

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=2) + "\n")


def compare(
    model: Model, task: Task, exported: nn.Module, *, format: str, path: Path, num_bytes: int, called: Signature,
    quality: bool, net: nn.Module, example: Batch,
) -> Parity:  # fmt: skip
    """Measure an exported net against the student.

    Args:
        model: the student.
        task: what it was made for.
        exported: what was written, opened again.
        format: of the file.
        path: what it will be called.
        num_bytes: its size.
        called: how it is called.
        quality: whether to measure both on the task.
        net: the student's net, ready for use.
        example: an input that it takes, on which both are timed.

    Raises:
        UserError: for answers that are not finite, as numbers may be that are too large for half precision.
    """
    batches = [each for batch in evaluation_inputs(model, task) for each in at_sizes(batch, called.sizes)]
    pairs = [(_answer(net, batch), _answer(exported, batch)) for batch in batches]
    if not all(each.isfinite().all() for pair in pairs for each in pair):
        raise not_finite(format, model.name)
    rows = [Agreement(shape=tuple(batch.x.shape), max_abs_error=_largest(*pair), psnr=nearness(task, [pair])["psnr"])
            for batch, pair in zip(batches, pairs, strict=True)]  # fmt: skip
    figures: dict[str, tuple[float, float]] = {}
    if quality:
        teacher = teacher_of(model) if task.gives == "features" else None
        student, other = task.parity(net, exported, teacher=teacher, limit=task.quick_eval_images)
        figures = {key: (value, other[key]) for key, value in student.items()}
    primary = task.primary_metric if figures and task.primary_metric in figures else None
    return Parity.model_validate(
        {
            "format": format,
            "file": path.name,
            "student": model.name,
            "fingerprint": model.fingerprint(),
            "inputs": called.inputs,
            "agreement": rows,
            "max_abs_error": max(row.max_abs_error for row in rows),
            "largest": max(float(exact.abs().max()) for exact, _ in pairs),
            **nearness(task, pairs),
            "bytes": (cost.size_bytes(net), num_bytes),
            "latency_ms": tuple(cost.latencies_ms([net, exported], example.x, example.cond)),
            "latency_shape": tuple(example.x.shape),
            "threads": torch.get_num_threads(),
            "primary_metric": primary,
            "quality": figures,
            "measured": task.describe_evaluation(reference=net) if primary else None,
            "machine": machine(torch.device("cpu")),
            "versions": _versions(),
        }
    )


def not_finite(format: str, name: str) -> UserError:
    """How a student is refused in a format whose numbers do not hold it."""
    return UserError(text("export_not_finite", "as {format} {name} gives numbers that are not finite: nothing is "
                          "written; choose a format in float32, onnx say", format=format, name=name))  # fmt: skip


def _answer(net: nn.Module, batch: Batch) -> torch.Tensor:
    with evaluating(net):
        out = call(net, batch.x, batch.cond).float()
    return out


def _largest(exact: torch.Tensor, written: torch.Tensor) -> float:
    assert exact.shape == written.shape, f"an exported net gives {tuple(written.shape)} for {tuple(exact.shape)}"
    return float((exact - written).abs().max())


def nearness(task: Task, pairs: Pairs) -> dict[str, float | None]:
    """How near answers are, by figures of ``Parity``: what a task answers with settles which; the others are None.

    Args:
        task: what the answers are to. Of one of several parts each part is read for itself.
        pairs: the answers.
    """
    parts: list[tuple[Task, Pairs]] = [
        (part, [(task.read(exact, name), task.read(written, name)) for exact, written in pairs])
        for name, part in task.parts.items()
    ] or [(task, pairs)]
    images = [pair for part, each in parts if part.gives == "images" for pair in each]
    others = [pair for part, each in parts if part.gives != "images" for pair in each]
    logits = [pair for part, each in parts if _tells_classes(part) for pair in each]
    return {"psnr": _psnr(images), "relative_error": _relative_error(others), "same_class": _same_class(logits)}


def _tells_classes(task: Task) -> bool:
    return task.gives == "logits" and task.answer_shape(task.example()) is not None


def _squares(pairs: Pairs) -> float:
    return sum(float((exact - written).double().square().sum()) for exact, written in pairs)


def _psnr(images: Pairs) -> float | None:
    if not (squares := _squares(images)):
        return None
    return 10 * math.log10(4 * sum(exact.numel() for exact, _ in images) / squares)


def _relative_error(answers: Pairs) -> float | None:
    if not answers:
        return None
    whole = _squares([(exact, torch.zeros_like(exact)) for exact, _ in answers])
    return math.sqrt(_squares(answers) / max(whole, 1e-12))


def _same_class(logits: Pairs) -> float | None:
    if not logits:
        return None
    same = torch.cat([(exact.argmax(1) == written.argmax(1)).flatten() for exact, written in logits])
    return same.double().mean().item()


def _versions() -> Mapping[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
