"""Files that people have and nobody can distil: each is named for what it is, in one line, and nothing of it is run."""

import io
import os
import pickle
import struct
import zipfile
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import save, save_file
from support import call

from kdgen.models.nets.compact import SRVGGNetCompact, compact

pytestmark = pytest.mark.skipif(
    find_spec("spandrel") is None or find_spec("onnx") is None,
    reason="no spandrel or no onnx here: pip install 'kdgen[restorers,onnx]'",
)

RAN = "ran.txt"
"""What code that a file carries would write."""


class Code:
    """What an attacker pickles."""

    def __init__(self, folder):
        self.command = f"touch {folder / RAN}"

    def __reduce__(self):
        return os.system, (self.command,)


def upscaler():
    torch.manual_seed(0)
    return compact(width=8, depth=2, scale=2).state_dict()


def torch_bytes(data, **options):
    torch.save(data, buffer := io.BytesIO(), **options)
    return buffer.getvalue()


def lora():
    keys = ("lora_unet_down_blocks_0_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1")
    return {
        f"{key}.{part}": torch.zeros(4, 4) for key in keys for part in ("lora_up.weight", "lora_down.weight", "alpha")
    }


def language_model():
    keys = ("self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj")
    return {"model.embed_tokens.weight": torch.zeros(10, 4),
            **{f"model.layers.0.{key}.weight": torch.zeros(4, 4) for key in keys}}  # fmt: skip


def optimizer():
    net = torch.nn.Conv2d(3, 3, 3)
    adam = torch.optim.Adam(net.parameters())
    net(torch.zeros(1, 3, 4, 4)).sum().backward()
    adam.step()
    return adam.state_dict()


def of_channels(count):
    net = SRVGGNetCompact(count, 8, 2, 1)
    return net.state_dict()


def zipped(files):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def classifier():
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["image"], ["scores"])], "c",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, 1, 1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    assert onnx.__version__
    return data


FILES = {
    "optimizer.pth": (lambda _: torch_bytes(optimizer()), "the state of an optimiser, and no weights of a net"),
    "optimizer.ckpt": (lambda _: torch_bytes({"epoch": 3, "optimizer": optimizer()}), "the state of an optimiser"),
    "lora.safetensors": (lambda _: save(lora()), "a LoRA"),
    "peft.safetensors": (
        lambda _: save({f"base_model.model.q.lora_{part}.weight": torch.zeros(4, 4) for part in "AB"}), "a LoRA"),
    "cut.safetensors": (lambda _: save(upscaler())[:-400], "damaged"),
    "cut.pth": (lambda _: torch_bytes(upscaler())[:-400], "damaged"),
    "code.pth": (lambda folder: pickle.dumps(Code(folder), 2), "reading it would run code"),
    "code.pt": (lambda folder: pickle.dumps({"state_dict": Code(folder)}, 4), "reading it would run code"),
    "torch.pth": (lambda folder: torch_bytes({"state_dict": Code(folder)}), ""),
    "old.pth": (lambda folder: torch_bytes([Code(folder)], _use_new_zipfile_serialization=False), "run code"),
    "llama.safetensors": (lambda _: save(language_model()), "a language model"),
    "nine.safetensors": (lambda _: save(of_channels(9)), "9 channels in and 9 out: 1 or 3 of both are handled"),
    "four.pth": (lambda _: torch_bytes({"params": of_channels(4)}), "4 channels in and 4 out"),
    "notes.pth": (lambda _: b"learning rate 1e-4\nbatch 16\n", "notes.pth, a text, is no file of weights"),
    "page.pth": (lambda _: b"<!DOCTYPE html><html>please log in</html>", "a web page"),
    "empty.pth": (lambda _: b"", "empty"),
    "empty.onnx": (lambda _: b"", "empty"),
    "classifier.onnx": (lambda _: classifier(), "makes no image as large as its input"),
    "cut.onnx": (lambda _: classifier()[:-30], "damaged or no ONNX file"),
    "photos.pth": (lambda _: zipped({"a.png": b"x", "b.png": b"x"}), "an archive of other files (a.png, b.png)"),
    "llama.gguf": (lambda _: b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(200), "a GGUF file"),
    "llama.bin": (lambda _: b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(200), "a GGUF file"),
    "keras.h5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(200), "an HDF5 file"),
    "photo.pth": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(200), "a picture"),
    "photo.png": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(200), "a picture"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["distill", "show"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_nobody_loads_is_named_for_what_it_is(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make, line = FILES[name]
    (tmp_path / name).write_bytes(make(tmp_path))
    assert call(command, name) == 2
    printed = capsys.readouterr()
    said = " ".join(printed.err.split())
    assert not printed.out
    assert name in said
    assert line in said
    assert "Traceback" not in said
    assert said.count("kdgen: ") == 1
    assert len(said) < 900
    assert {path.name for path in tmp_path.iterdir()} == {name}, "nothing was run, nothing was written"


def test_a_file_that_ends_in_weights_is_no_trap(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_file(upscaler(), tmp_path / "2x.safetensors")
    assert call("show", "2x.safetensors") == 0
