"""``export_model``: a student written for another runtime, whole or not at all, with its parity beside it."""

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from kdgen.export.graph import Signature, program, quiet, signature, without_bound
from kdgen.export.inputs import at_sizes, conditions, training_inputs
from kdgen.export.ncnn import IMAGE_ALONE, NcnnNet, needs_ncnn, write_ncnn
from kdgen.export.onnx import OnnxNet, needs_onnx, write_int8, write_onnx
from kdgen.export.parity import Parity, compare, not_finite
from kdgen.models.adapters.taesd_file import write_taesd
from kdgen.models.model import Model, load
from kdgen.models.nets.fold import folded
from kdgen.registry import nearest
from kdgen.tasks.infer_task import task_of
from kdgen.types import Batch, Net, Task, UserError, text
from kdgen.utils.conditions import conditions_of

TOLERANCE = 1e-4
"""Largest difference to the student that a format in float32 may have anywhere, of images in [-1, 1].

Of answers that go beyond, logits say, it is this share of the largest."""

WEIGHTS = (".safetensors", ".param", ".bin")
"""How the files of a folder end that are the student; others describe it."""

CALIBRATED = 64
"""Inputs of the task that the ranges of int8 are taken from; none that quality is measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What ``export_model`` wrote.

    Attributes:
        path: the file, or the folder of a format of several.
        parity_file: the JSON file with its parity.
        parity: what stands in that.
    """

    path: Path
    parity_file: Path
    parity: Parity


@dataclass(slots=True, kw_only=True)
class Made:
    """A student on its way out: the model, its net ready for use, its task, an input that it takes, and how."""

    model: Model
    net: Net
    task: Task
    example: Batch
    called: Signature

    def program(self) -> ExportedProgram:
        """The net as torch.export's program; it settles how the net is called."""
        made, self.called = program(self.net, self.example, self.called)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: how its files end, how it is written and opened again, what it promises and needs."""

    suffix: str
    write: Callable[[Made, Path], nn.Module]
    exact: bool = False
    needs: Callable[[], None] | None = None


class Opened(nn.Module):
    """A program of torch.export, called as kdgen calls nets."""

    def __init__(self, path: Path, called: Signature) -> None:
        super().__init__()
        with quiet():
            self.net, self.called = torch.export.load(path).module(), called
        self.conditions = frozenset(called.conditions)

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        """``x`` and the conditions that the program takes, to its answer."""
        out: torch.Tensor = self.net(*conditions(Batch(x=x, cond=cond), self.called.conditions))
        return out

    def eval(self) -> "Opened":
        """The same: a program has no modes."""
        return self


class InParts(nn.Module):
    """A net that takes no more than so many inputs at once, called on any number."""

    def __init__(self, net: nn.Module, largest_batch: int) -> None:
        super().__init__()
        self.net, self.largest_batch = net, largest_batch
        self.conditions = conditions_of(net)

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        """What the net answers, part by part."""
        parts = Batch(x=x, cond=cond).split(-(-len(x) // self.largest_batch))
        return torch.cat([self.net(part.x, **part.cond) for part in parts])

    def eval(self) -> "InParts":
        """The same: a program has no modes."""
        return self


def export_model(
    model: Model, out: str | os.PathLike[str] | None = None, *, format: str = "onnx", task: Task | None = None
) -> Exported:
    """Write a student for another runtime and check it against the student there.

    Args:
        model: the student.
        out: the file to write, or the folder for those of several; by default its name in the working folder. What
            was exported there before is replaced.
        format: ``onnx`` for onnxruntime, with any batch, height and width that the net takes; ``onnx-fp16`` and
            ``int8`` likewise, in half precision and quantized; ``ncnn`` for ncnn, a folder of two files for one image
            in [0, 1]; ``torch-export`` for torch without kdgen; ``safetensors-fp16`` for kdgen, at half the size;
            ``taesd`` for programs that read TAESD's files, a folder with one of each half of an ``autoencoder_tiny``.
        task: what the model was made for; by default what its run or its configuration says.

    Returns:
        what was written, and how near it is. ``onnx``, ``ncnn``, ``torch-export`` and ``taesd`` are within 1e-4 of the
        student everywhere.

    Raises:
        UserError: for an unknown format, a missing package, a net that cannot be traced or does not come out the same;
            nothing is written then.
    """
    if format not in FORMATS:
        raise UserError(text("no_export_format", "no format is called {name!r}{nearest}", name=format,
                             nearest=nearest(format, FORMATS)))  # fmt: skip
    chosen = FORMATS[format]
    path = Path(out) if out is not None else Path(f"{model.name}{chosen.suffix}")
    if "." in chosen.suffix and path.is_dir():
        path = path / f"{model.name}{chosen.suffix}"
    parity_file = path.with_name(f"{path.name}.parity.json")
    if chosen.needs is not None:
        chosen.needs()
    model = model.eval().cpu()
    net, task = folded(model.net).eval(), task or task_of(model)
    called, example = signature(net, task.example())
    made = Made(model=model, net=net, task=task, example=example, called=called)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _atomic(path, folder="." not in chosen.suffix) as partial:
        exported = chosen.write(made, partial)
        if made.called.largest_batch is not None:
            exported = InParts(exported, made.called.largest_batch)
        parity = compare(model, task, exported, net=net, example=example, format=format, path=path, called=made.called,
                         num_bytes=_size(partial), quality=not chosen.exact)  # fmt: skip
        most = TOLERANCE * max(parity.largest, 1)
        if chosen.exact and not parity.max_abs_error <= most:
            raise UserError(text("export_differs", "as {format} {name} differs from itself by {error:.2g}, more than "
                                 "{most:g}: nothing is written", format=format, name=model.name,
                                 error=parity.max_abs_error, most=most))  # fmt: skip
        parity_file.unlink(missing_ok=True)
    parity.save(parity_file)
    return Exported(path=path, parity_file=parity_file, parity=parity)


def _onnx(made: Made, path: Path) -> nn.Module:
    write_onnx(made.program(), path, made.called.conditions)
    made.called = without_bound(made.called)
    return OnnxNet(path)


def _torch_export(made: Made, path: Path) -> nn.Module:
    made_program = made.program()
    with quiet():
        torch.export.save(made_program, path)
    return Opened(path, made.called)


def _int8(made: Made, path: Path) -> nn.Module:
    batch = next(at_sizes(training_inputs(made.model, made.task, count=CALIBRATED), made.called.sizes))
    write_int8(made.program(), path, made.called.conditions, batch)
    made.called = without_bound(made.called)
    return OnnxNet(path)


class Halved(nn.Module):
    """A net in half precision, told and answering in float32."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net, self.conditions = copy.deepcopy(net).half(), conditions_of(net)

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        """What the net answers."""
        out: torch.Tensor = self.net(x.half(), **{key: value.half() for key, value in cond.items()})
        return out.float()


def _onnx_half(made: Made, path: Path) -> nn.Module:
    made.net = Halved(made.net).eval()
    return _onnx(made, path)


def _ncnn(made: Made, path: Path) -> nn.Module:
    if (made.task.reads, made.task.gives) != ("images", "images"):
        raise UserError(IMAGE_ALONE)
    sizes = write_ncnn(made.net, made.example, made.called, path, made.model.name)
    made.called = replace(made.called, sizes=sizes, largest_batch=1)
    return NcnnNet(path, made.model.name)


def _half(made: Made, path: Path) -> nn.Module:
    weights = (value for value in made.net.state_dict().values() if value.is_floating_point())
    if not all(value.half().isfinite().all() for value in weights):
        raise not_finite("safetensors-fp16", made.model.name)
    made.model.save(path, dtype=torch.float16)
    return load(path).net


def _taesd(made: Made, path: Path) -> nn.Module:
    halves = [load(file).net for file in write_taesd(made.net, path)]
    return halves[0] if len(halves) == 1 else nn.Sequential(*halves)


FORMATS = {
    "onnx": Format(suffix=".onnx", write=_onnx, exact=True, needs=needs_onnx),
    "onnx-fp16": Format(suffix="-fp16.onnx", write=_onnx_half, needs=needs_onnx),
    "ncnn": Format(suffix="-ncnn", write=_ncnn, exact=True, needs=needs_ncnn),
    "torch-export": Format(suffix=".pt2", write=_torch_export, exact=True),
    "safetensors-fp16": Format(suffix="-fp16", write=_half),
    "int8": Format(suffix="-int8.onnx", write=_int8, needs=needs_onnx),
    "taesd": Format(suffix="-taesd", write=_taesd, exact=True),
}
"""What a student can be exported to, by name."""


@contextmanager
def _atomic(path: Path, *, folder: bool) -> Iterator[Path]:
    """A place to write a file or a folder, which becomes ``path`` at the end or is removed.

    Raises:
        UserError: for a folder that holds anything.
    """
    if folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(text("export_in_the_way", "{path} is there already: name another place with --out", path=path))
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    _remove(partial)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in WEIGHTS]
    return sum(file.stat().st_size for file in files)
