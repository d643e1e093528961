"""ncnn files: written by pnnx from a traced net, run by ncnn, as programs that upscale on phones and desktops do."""

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdgen.export.graph import Signature, quiet
from kdgen.models.input_shape import InputShape, error_line, mirrored
from kdgen.types import Batch, Net, UserError, text
from kdgen.utils.devices import evaluating

BLOBS = {"in0": "data", "out0": "output"}
"""What pnnx calls input and output, and what programs that upscale look for."""

MULTIPLES = (1, 2, 4, 8, 16)
"""What height and width are multiples of where a net that takes any is traced: what it pads is fixed then."""

IMAGE_ALONE = text("ncnn_image_alone", "an ncnn file is for a net that makes an image of an image and is told nothing "
                   "else: export it as onnx")  # fmt: skip

NEAR = 1e-3
"""Share of the largest value by which a file may differ from its net at another size than it was traced at."""


def needs_ncnn() -> None:
    """Refuse where the optional packages are missing.

    Raises:
        UserError: with the command that installs them.
    """
    try:
        import ncnn  # noqa: F401
        import pnnx  # noqa: F401
    except ImportError as error:
        raise UserError(text("ncnn_missing", "exporting to ncnn needs {name}: pip install 'kdgen[ncnn]'",
                             name=error.name)) from None  # fmt: skip


class Light(nn.Module):
    """A net whose images are in [0, 1], which is what programs give it."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` in [0, 1] to ``(B, C, S * H, S * W)``."""
        out: Tensor = self.net(2 * x - 1)
        return (out + 1) / 2


class NcnnNet(nn.Module):
    """A folder of ncnn files under ncnn on the CPU, called on one image in [-1, 1] as kdgen calls nets."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__()
        import ncnn

        self.ncnn, self.net = ncnn, ncnn.Net()
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_vulkan_compute"):
            setattr(self.net.opt, option, False)
        self.net.opt.num_threads = torch.get_num_threads()
        if self.net.load_param(str(folder / f"{name}.param")) or self.net.load_model(str(folder / f"{name}.bin")):
            raise ValueError("ncnn does not open what pnnx wrote")

    def forward(self, x: Tensor) -> Tensor:
        """``(1, C, H, W)`` in [-1, 1] to the same or larger. Raises ValueError where ncnn fails."""
        light = np.ascontiguousarray(((x[0] + 1) / 2).detach().numpy())  # read where it lies until it is cloned
        extractor: Any = self.net.create_extractor()
        extractor.input("data", self.ncnn.Mat(light).clone())
        failed, out = extractor.extract("output")
        if failed:
            raise ValueError("ncnn fails at this size")
        return torch.from_numpy(np.array(out))[None] * 2 - 1

    def eval(self) -> "NcnnNet":
        """The same: a file has no modes."""
        return self


def write_ncnn(net: Net, example: Batch, called: Signature, folder: Path, name: str) -> InputShape:
    """Write a net as a folder of two files, ``NAME.param`` and ``NAME.bin``.

    They take one image in [0, 1] as ``data`` and give one as ``output``, in float32.

    Args:
        net: on the CPU, ready for use.
        example: an input that it takes.
        called: how it is called.
        folder: where the files go.
        name: what they are called.

    Returns:
        the sizes that the files take: the least multiple at which they were seen to give what the net does.

    Raises:
        UserError: for a net that is told more than an image, and one that pnnx or ncnn cannot do.
    """
    if called.conditions or called.sizes is None:
        raise UserError(IMAGE_ALONE)
    folder.mkdir()
    failure: object = ""
    for sizes in _candidates(called.sizes):
        try:
            _convert(net, example.x, sizes, folder, name)
            if _holds(NcnnNet(folder, name), net, example.x, sizes):
                return sizes
            failure = text("traced_otherwise", "what torch makes of it gives something else at other sizes")
        except (RuntimeError, ValueError, OSError) as error:
            failure = error_line(error)
    raise UserError(text("no_ncnn", "ncnn cannot do the net ({error}): export it as onnx", error=failure))


def _candidates(taken: InputShape) -> Iterator[InputShape]:
    if taken.fixed is not None:
        yield taken
        return
    for multiple in dict.fromkeys(math.lcm(taken.multiple, each) for each in MULTIPLES):
        yield InputShape(multiple, -(-taken.min_size // multiple) * multiple)


def _shown(x: Tensor, sizes: InputShape, tall: int, wide: int) -> Tensor:
    """One input as large as so many multiples, or as the least or the one size that is taken."""
    return mirrored(x[:1], *sizes.at_least(tall * sizes.multiple, wide * sizes.multiple))


def _convert(net: Net, x: Tensor, sizes: InputShape, folder: Path, name: str) -> None:
    """Raises RuntimeError with what pnnx says where it writes nothing."""
    import pnnx

    inputs = [_shown(x, sizes, *times) for times in ((30, 21), (25, 34))]
    shapes = [f"[{','.join(map(str, each.shape))}]f32" for each in inputs]
    with TemporaryDirectory() as place:
        with quiet(), evaluating(net):
            torch.jit.trace(Light(net), inputs[0], check_trace=False).save(f"{place}/net.pt")  # type: ignore[no-untyped-call]
        files = [f"{key}={place}/{key}" for key in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnparam",
                                                    "ncnnbin", "ncnnpy")]  # fmt: skip
        second = [f"inputshape2={shapes[1]}"] if shapes[1] != shapes[0] else []
        done = subprocess.run([pnnx.EXEC_PATH, "net.pt", f"inputshape={shapes[0]}", *second, "fp16=0", *files],
                              cwd=place, capture_output=True, text=True, check=False)  # fmt: skip
        written = Path(place, "ncnnparam")
        if done.returncode or not written.is_file():
            lines = [line for line in done.stderr.splitlines() if "Error" in line]
            raise RuntimeError(lines[-1] if lines else f"pnnx ended with {done.returncode}")
        words = (line.split() for line in written.read_text().splitlines())
        renamed = [" ".join(BLOBS.get(word, word) for word in line) for line in words]
        (folder / f"{name}.param").write_text("\n".join(renamed) + "\n")
        os.replace(Path(place, "ncnnbin"), folder / f"{name}.bin")


def _holds(opened: NcnnNet, net: Net, x: Tensor, sizes: InputShape) -> bool:
    """Whether the files give what the net does at sizes that they were not traced at."""
    for times in ((31, 19), (8, 13)):
        shown = _shown(x, sizes, *times)
        with evaluating(net):
            exact, out = net(shown), opened(shown)
        if out.shape != exact.shape or not (out - exact).abs().max() <= NEAR * max(float(exact.abs().max()), 1):
            return False
    return True
