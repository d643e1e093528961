"""Models as users hold them: loaded from a reference, called on pictures, saved as a folder that can be published.

A reference is a bundled name, a run folder, a student folder, or a JSON file that declares somebody else's checkpoint.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

import kdgen.zoo  # noqa: F401 - registers its nets
from kdgen import registry
from kdgen.adapters.checkpoint import load_checkpoint, probe_checkpoint
from kdgen.data.photographs import Photographs
from kdgen.recipe import Checkpoint, Strict, explain_error
from kdgen.registry import Use
from kdgen.types import Net, UserError
from kdgen.zoo.fold import folded

BUNDLED = Path(__file__).parent / "zoo" / "weights"


class Config(Strict):
    """`config.json` of a student folder."""

    format: Literal[1] = Field(1, description="version of this format")
    kdgen: str = Field(description="version of kdgen that wrote it")
    name: str = Field(description="what the model is called")
    net: Use = Field(description="the architecture and its arguments")
    channels: int = Field(description="channels of its images: 1 grey, 3 colour")
    task: dict[str, JsonValue] = Field(default_factory=dict, description="what it was made for")


class Model(nn.Module):
    """A net and what is known of it, called on a picture of any common kind.

    Attributes:
        net: called as ``net(x, **cond) -> (B, C, H, W)`` in [-1, 1].
        name: what it is called in tables.
        channels: 1 or 3.
        task: what it was made for, e.g. ``{"name": "denoise", "sigma": 25}``.
        use: the architecture and its arguments, None for a net that came as a module.
    """

    def __init__(
        self, net: Net, *, name: str, channels: int, task: Mapping[str, Any] | None = None, use: Use | None = None
    ) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.channels = channels
        self.task = dict(task or {})
        self.use = use

    def forward(self, image: Any, sigma: float | None = None) -> Any:
        """Restore a picture; see ``__call__``."""
        x, back = to_tensor(image)
        return back(self.restore(x, sigma))

    @torch.inference_mode()
    def restore(self, x: Tensor, sigma: float | None = None) -> Tensor:
        """Restore images.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1]. A grey model takes colour images channel by channel; a colour model takes
                grey ones repeated.
            sigma: noise level in 8-bit units; default what the model was made for.

        Returns:
            ``(B, C, H, W)``, clamped to [-1, 1].

        Raises:
            UserError: if the model was made for a range of noise levels and none is given.
        """
        self.eval()
        batch, channels = x.shape[:2]
        where = next(self.parameters()).device
        x = x.to(where)
        if channels != self.channels:
            x = x.flatten(0, 1).unsqueeze(1) if self.channels == 1 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        level = torch.full((len(x),), 2 * self._sigma(sigma) / 255, device=where)
        out: Tensor = self.net(x, sigma=level).float().clamp(-1, 1)
        if channels != self.channels:
            out = out.view(batch, channels, *out.shape[-2:]) if self.channels == 1 else out.mean(1, keepdim=True)
        return out

    def _sigma(self, sigma: float | None) -> float:
        made_for = self.task.get("sigma", 25.0)
        if sigma is not None:
            return float(sigma)
        if isinstance(made_for, int | float):
            return float(made_for)
        raise UserError(f"{self.name} restores noise of sigma {made_for[0]:g} to {made_for[1]:g}: say which, e.g. 25")

    def fingerprint(self) -> str:
        """A hash of architecture and weights."""
        digest = hashlib.sha256(repr(self.net).encode())
        for key, value in sorted(self.net.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the student folder: `config.json` and `model.safetensors`, folded for use, each whole or not at all."""
        assert self.use is not None, "only a net that is built by name can be saved"
        net, use = folded(self.net), self.use
        if isinstance(own := getattr(net, "use", None), Use):
            use = own
        elif net.state_dict().keys() != self.net.state_dict().keys():
            net = self.net
        config = Config(kdgen=version("kdgen"), name=self.name, net=use, channels=self.channels, task=self.task)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
        partial = folder / "model.safetensors.partial"
        partial.write_bytes(serialize(weights, metadata={"format": "pt"}))
        os.replace(partial, folder / "model.safetensors")
        write_text(folder / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def load(reference: str | os.PathLike[str] | Checkpoint) -> Model:
    """Load a model.

    Args:
        reference: a bundled name, a run folder, a student folder, a JSON file that declares a foreign checkpoint, or
            such a declaration itself.

    Returns:
        the model on the CPU, in evaluation mode.

    Raises:
        UserError: if nothing lies there, or what lies there is damaged or does not fit its declaration.
    """
    if isinstance(reference, Checkpoint):
        return _foreign(reference)
    path = Path(reference)
    if path.suffix == ".json" and path.is_file():
        return _foreign(_declaration(path))
    for folder in (path / "student", path, BUNDLED / str(reference)):
        if (folder / "config.json").is_file():
            return _student(folder)
    if path.is_dir():
        raise UserError(f"{path} holds no finished student (no config.json); `kdgen resume {path}` finishes a run")
    bundled = [p.name for p in BUNDLED.iterdir() if (p / "config.json").is_file()]
    raise UserError(f"no model at {str(reference)!r}: give a run or student folder, a checkpoint's JSON file, "
                    f"or one of the bundled {', '.join(sorted(bundled))}")  # fmt: skip


def build_net(use: Use, channels: int) -> tuple[Net, Use]:
    """A net by name, with its channels set by the task where the recipe leaves them open; and all its arguments."""
    if "channels" not in use.args and registry.accepts("net", use.name, "channels"):
        use = Use(name=use.name, args={**use.args, "channels": channels})
    return registry.build("net", use), registry.spelled_out("net", use)


def _student(folder: Path) -> Model:
    try:
        config = Config.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UserError(f"{folder / 'config.json'}: {explain_error(error, Config)}") from None
    net: Net = registry.build("net", config.net)
    try:
        net.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder / 'model.safetensors'} is damaged or does not fit its config.json: "
                        f"{str(error).splitlines()[0]}") from None  # fmt: skip
    model = Model(net, name=config.name, channels=config.channels, task=config.task, use=config.net)
    return model.eval()


def _declaration(path: Path) -> Checkpoint:
    try:
        spec = Checkpoint.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UserError(f"{path}: {explain_error(error, Checkpoint)}") from None
    beside = path.parent / spec.file
    return spec.model_copy(update={"file": str(beside)}) if beside.exists() else spec


def _foreign(spec: Checkpoint) -> Model:
    net = load_checkpoint(spec)
    channels = int(spec.net.args.get("channels", registry.default("net", spec.net.name, "channels") or 3))  # type: ignore[arg-type]
    probe_checkpoint(spec, next(Photographs().images(channels))[1])
    return Model(net, name=spec.name or Path(spec.file).stem, channels=channels).eval()


def to_tensor(image: Any) -> tuple[Tensor, Any]:
    """A picture as ``(1, C, H, W)`` in [-1, 1], and the function that turns such a tensor back into its kind.

    Args:
        image: a PIL image; an array ``(H, W)`` or ``(H, W, C)``, uint8 or float in [0, 1]; or a tensor ``(C, H, W)`` or
            ``(B, C, H, W)`` in [-1, 1].

    Raises:
        UserError: for anything else.
    """
    if isinstance(image, Tensor) and image.ndim in (3, 4):
        return (image[None], lambda out: out[0]) if image.ndim == 3 else (image, lambda out: out)
    if isinstance(image, Image.Image):
        grey = image.mode in ("1", "L", "I", "I;16", "F", "LA")
        array = np.asarray(image.convert("L" if grey else "RGB"))
        return _from_array(array), lambda out: Image.fromarray(_to_array(out, np.dtype(np.uint8), array.ndim))
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return _from_array(image), lambda out: _to_array(out, image.dtype, image.ndim)
    raise UserError("a picture is a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W) or (B, C, H, W)")


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    x = torch.from_numpy(np.array(array, dtype=np.float32)) / (255 if array.dtype == np.uint8 else 1)
    return (x[None] if x.ndim == 2 else x.movedim(-1, 0))[None] * 2 - 1


def _to_array(x: Tensor, dtype: np.dtype[Any], ndim: int) -> np.ndarray[Any, Any]:
    unit = (x[0].cpu() + 1) / 2
    array = (unit.mul(255).round().byte() if dtype == np.uint8 else unit).movedim(0, -1).numpy()
    return array[..., 0] if ndim == 2 else array.astype(dtype, copy=False)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
