"""How near exports come, in figures that suit their answers: PSNR of images, relative errors of what is none."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdgen import registry
from kdgen.cli.commands.exporting import _table
from kdgen.export.formats import export_model
from kdgen.export.graph import signature
from kdgen.export.parity import Parity, compare, nearness
from kdgen.models.model import Model
from kdgen.registry import Spec
from kdgen.types import Batch, Metrics, Task, UserError
from kdgen.ui.exports import parity_table

WORDS = Path(__file__).parents[2] / "kdgen" / "ui" / "words"


class Answering(Task):
    """A task of 8x8 images whose nets answer with whatever ``gives`` says; of logits there are three unless none."""

    name, channels, num_classes = "answering", 1, 3

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        yield Batch(x=torch.randn(batch_size, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))

    def example(self) -> Batch:
        return Batch(x=torch.zeros(1, 1, 8, 8))

    def describe(self) -> dict[str, Any]:
        return {"name": "denoise"}

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        return (self.num_classes,) if self.num_classes else None

    def evaluate(self, net: nn.Module, **how: Any) -> Metrics:
        return {}


class Images(Answering):
    gives = "images"


class Latents(Answering):
    gives = "latents"


class Features(Answering):
    gives = "features"


class Logits(Answering):
    gives = "logits"


class WithoutHead(Logits):
    num_classes = 0


class Both(Answering):
    """Images in the first channel, logits in the others."""

    parts: Mapping[str, Task] = MappingProxyType({"restore": Images(), "tell": Logits()})

    def read(self, out: Tensor, part: str) -> Tensor:
        return out[:, :1] if part == "restore" else out[:, 1:]


def parity(task: Task, off: float = 0.01) -> Parity:
    """Of a net of four channels, and the same times ``1 + off``."""

    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = net(x) * (1 + off)
            return out

    torch.manual_seed(0)
    net = nn.Conv2d(1, 4, 3, padding=1)
    called, example = signature(net, task.example())
    return compare(Model(net, name="own", channels=1, task=task.describe()), task, Scaled(), format="onnx-fp16",
                   path=Path("own.onnx"), num_bytes=100, called=called, quality=False, net=net, example=example)  # fmt: skip


def test_figures_are_those_of_the_answers() -> None:
    exact = torch.tensor([[3.0, 4.0, 0.0], [0.0, 1.0, 0.0]])
    written = torch.tensor([[4.0, 3.0, 0.0], [0.0, 1.0, 0.0]])
    pairs = [(exact, written)]
    away = pytest.approx((2 / 26) ** 0.5)
    psnr = pytest.approx(10 * torch.tensor(4 * 6 / 2).log10().item())
    assert nearness(Images(), pairs) == {"psnr": psnr, "relative_error": None, "same_class": None}
    for task in (Latents(), Features(), WithoutHead()):
        assert nearness(task, pairs) == {"psnr": None, "relative_error": away, "same_class": None}
    assert nearness(Logits(), pairs) == {"psnr": None, "relative_error": away, "same_class": 0.5}
    both = nearness(Both(), pairs)
    assert both["psnr"] == pytest.approx(10 * torch.tensor(4 * 2 / 1).log10().item())
    assert both["relative_error"] == pytest.approx((1 / 17) ** 0.5)
    assert both["same_class"] == 1


def test_equal_answers_have_no_psnr_and_no_error() -> None:
    zeros = [(torch.zeros(2, 3), torch.zeros(2, 3))]
    assert nearness(Images(), zeros)["psnr"] is None
    assert nearness(Logits(), zeros) == {"psnr": None, "relative_error": 0, "same_class": 1}


@pytest.mark.parametrize(
    ("task", "said"),
    [(Images(), ["psnr"]), (Features(), ["relative_error"]), (Logits(), ["relative_error", "same_class"])],
)
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_tables_say_what_means_something(task: Task, said: list[str], language: str) -> None:
    found, words = parity(task), json.loads((WORDS / f"{language}.json").read_text(encoding="utf-8"))
    shown = parity_table(found.model_dump(mode="json"), words)
    named = {key: words[f"export_{key}"] in shown for key in ("psnr", "relative_error", "same_class")}
    assert [key for key, there in named.items() if there] == said
    assert ("/ 255" in shown) == (task.gives == "images")
    titles = list(_table(found).columns[0].cells)
    assert ("PSNR to the student" in titles, "relative error" in titles, "same class" in titles) == tuple(
        named.values()
    )
    assert all((row.psnr is None) == (task.gives != "images") for row in found.agreement)
    if task.gives != "images":
        assert found.near["relative_error"] == "1 %"


def test_an_export_that_overflows_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="as onnx-fp16 own gives numbers that are not finite: nothing is written"):
        parity(Images(), off=float("inf"))


def test_weights_that_half_precision_does_not_hold_are_refused_in_a_line(tmp_path: Path) -> None:
    net: nn.Module = registry.build("net", use := Spec(name="dncnn", args={"channels": 1, "width": 4, "depth": 3}))
    with torch.no_grad():
        next(net.parameters()).mul_(1e8)
    own = Model(net, name="own", channels=1, task={"name": "denoise", "channels": 1, "sigma": 25}, use=use)
    with pytest.raises(
        UserError, match="as safetensors-fp16 own gives numbers that are not finite: nothing is written"
    ):
        export_model(own, tmp_path / "half", format="safetensors-fp16")
    assert not any(tmp_path.iterdir())
