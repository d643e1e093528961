"""Checkpoints of other people's: published weights do what was published, and mistakes are told in one line."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import kdgen.models.nets
import kdgen.tasks  # noqa: F401
from kdgen.models.adapters.checkpoint import load_checkpoint
from kdgen.models.adapters.declared_task import declared_task
from kdgen.models.model import load
from kdgen.recipe import Checkpoint
from kdgen.registry import Spec, arguments, build
from kdgen.types import UserError
from kdgen.utils.conditions import call
from kdgen.utils.hooks import capture_outputs, hookable_layers

SMALL = Spec(name="dncnn", args={"depth": 3, "width": 4, "norm": True})
DNCNN_S = Spec(name="dncnn", args={"norm": True, "bias": False})
FFDNET = Spec(name="ffdnet", args={"norm": True, "bias": False})
DEEP = "module.intermediate_dncnn.itermediate_dncnn."


def dncnn_s(shared_data: Path, **changes: Any) -> Checkpoint:
    file = shared_data / "dncnn-saoyan" / "DnCNN-S-25" / "net.pth"
    declared = {"net": DNCNN_S, "prefix": "module.dncnn.", "predicts": "residual", **changes}
    return Checkpoint(file=str(file), **declared)


def ffdnet(shared_data: Path, **changes: Any) -> Checkpoint:
    declared = {"net": FFDNET, "prefix": DEEP, "predicts": "residual", **changes}
    return Checkpoint(file=str(shared_data / "ffdnet" / "ffdnet_weights_gray.pth"), **declared)


def picture(shared_data: Path, name: str = "denoise-sets/Set12/03.png") -> Tensor:
    return torch.from_numpy(np.array(Image.open(shared_data / name), dtype=np.float32))[None, None] / 127.5 - 1


def restored(net: nn.Module, clean: Tensor, sigma: float) -> float:
    level = 2 * sigma / 255
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = call(net, clean + level * noise, {"sigma": torch.full((1,), level)}).clamp(-1, 1)
    return float(10 * torch.log10(4 / (out - clean).square().mean()))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """Weights of a small DnCNN and a file for them."""
    torch.manual_seed(0)
    return tmp_path / "net.pth", dict(build("net", SMALL).state_dict())


def declare(file: Path, **changes: Any) -> Checkpoint:
    return Checkpoint(file=str(file), **{"net": SMALL, **changes})


def refused(spec: Checkpoint) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(spec)
    assert "\n" not in str(error.value)
    return str(error.value)


# The picture is Peppers of Set12: published 30.87 dB for DnCNN-S at sigma 25; over all twelve, see the manifest beside them.
def test_published_dncnn(shared_data: Path) -> None:
    assert restored(load_checkpoint(dncnn_s(shared_data)), picture(shared_data), 25) == pytest.approx(30.86, abs=0.05)


@pytest.mark.parametrize(("sigma", "expected"), [(15, 33.28), (25, 31.00), (50, 27.65)])
def test_published_ffdnet(shared_data: Path, sigma: float, expected: float) -> None:
    assert restored(load_checkpoint(ffdnet(shared_data)), picture(shared_data), sigma) == pytest.approx(
        expected, abs=0.2
    )


def test_right_declarations_pass_the_probe(shared_data: Path) -> None:
    clean = picture(shared_data)[..., 80:144, 80:144]
    load_checkpoint(ffdnet(shared_data), clean)
    load_checkpoint(dncnn_s(shared_data), probe=clean)


@pytest.mark.parametrize(
    "wrong", [{"predicts": "image"}, {"range": (-1.0, 1.0)}, {"range": (-1.0, 1.0), "predicts": "image"}]
)
def test_wrong_declarations_are_refused_with_what_was_seen(shared_data: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"declared range .* dB; range \[0, 1\], residual gives .* dB: declare that"):
        load_checkpoint(dncnn_s(shared_data, **wrong), picture(shared_data)[..., 80:144, 80:144])


def test_weights_that_denoise_in_no_way_pass_the_probe(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    torch.save(weights, file)
    load_checkpoint(declare(file), torch.rand(1, 1, 32, 32) * 2 - 1)


def test_a_picture_of_other_channels_is_refused(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    torch.save(weights, file)
    with pytest.raises(UserError, match="does not take an image"):
        load_checkpoint(declare(file), torch.zeros(1, 3, 32, 32))


def test_range_and_prediction_are_converted(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    torch.save(weights, file)
    x = torch.rand(2, 1, 6, 7) * 2 - 1
    chain = build("net", SMALL, predicts="image").eval()
    chain.load_state_dict(weights)
    for predicts, expected in (("image", chain((x + 1) / 2)), ("residual", (x + 1) / 2 - chain((x + 1) / 2))):
        net = load_checkpoint(declare(file, predicts=predicts))
        assert torch.allclose(call(net, x, {"sigma": torch.ones(2)}), expected * 2 - 1, atol=1e-5)
        assert not net.training
    with capture_outputs(net, hookable_layers(net)) as seen:
        net(x)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": w},
        lambda w: {"params": w},
        lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
    ],
)
def test_usual_keys_are_found(saved: tuple[Path, dict[str, Tensor]], wrap: Any) -> None:
    file, weights = saved
    torch.save(wrap(weights), file)
    net = load_checkpoint(declare(file))
    assert torch.equal(net.get_parameter("net.0.weight"), weights["0.weight"])


def test_safetensors_and_a_declared_key(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    torch.save({"generator": weights, "discriminator": {}}, file)
    load_checkpoint(declare(file, key="generator"))
    assert "'discriminator'" in refused(declare(file, key="denoiser"))
    assert "'generator'" in refused(declare(file))
    save_file({"net." + key: value for key, value in weights.items()}, file.with_suffix(".safetensors"))
    load_checkpoint(declare(file.with_suffix(".safetensors"), prefix="net."))


def test_a_prefix_is_suggested(shared_data: Path) -> None:
    assert "declare prefix 'module.dncnn.'" in refused(dncnn_s(shared_data, prefix=""))
    assert f"declare prefix '{DEEP}'" in refused(ffdnet(shared_data, prefix="module."))
    assert "no keys that begin with 'model.'" in refused(dncnn_s(shared_data, prefix="model."))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"depth": 20}, "check the arguments of dncnn (channels, depth, width, norm, bias)"),
        ({"norm": False}, "unexpected"),
        ({"bias": True}, "missing '0.bias', '2.bias'"),
        ({"width": 48}, "declare width 64"),
        ({"channels": 3}, "declare channels 1"),
    ],
)
def test_another_architecture_is_refused(shared_data: Path, args: Mapping[str, Any], said: str) -> None:
    assert said in refused(dncnn_s(shared_data, net=Spec(name="dncnn", args={**DNCNN_S.args, **args})))


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("save", [torch.save, lambda thing, file: file.write_bytes(pickle.dumps(thing))])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl"])
def test_a_pickle_is_never_run(tmp_path: Path, save: Any, suffix: str) -> None:
    file, sprung = tmp_path / f"net{suffix}", tmp_path / "sprung"
    save({"0.weight": Trap(sprung)}, file)
    assert "not a file of plain tensors" in refused(declare(file))
    assert not sprung.exists()


def test_a_pickle_in_disguise_is_never_run(tmp_path: Path) -> None:
    file, sprung = tmp_path / "net.safetensors", tmp_path / "sprung"
    torch.save(Trap(sprung), file)
    assert "not a file of plain tensors" in refused(declare(file))
    assert not sprung.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.95, 0.999])
def test_truncated_files_are_damaged(saved: tuple[Path, dict[str, Tensor]], share: float, legacy: bool) -> None:
    file, weights = saved
    torch.save(weights, file, _use_new_zipfile_serialization=not legacy)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert "damaged" in refused(declare(file))
    tensors = file.with_suffix(".safetensors")
    save_file(weights, tensors)
    tensors.write_bytes(tensors.read_bytes()[: int(share * tensors.stat().st_size)])
    assert "damaged" in refused(declare(tensors))


def test_half_an_archive_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04 no zip")
    assert "damaged" in refused(declare(tmp_path / "net.pth"))


def test_other_mistakes(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    assert "no weights file" in refused(declare(file))
    assert "no weights file" in refused(declare(file.parent))
    torch.save(weights["0.weight"], file)
    assert "a Tensor" in refused(declare(file))
    assert "beside range" in refused(declare(file, net=Spec(name="dncnn", args={"predicts": "image"})))


def test_a_file_that_is_missing_is_told_where_to_get(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    told = {"file": str(file), "net": SMALL, "url": "https://example.org/net.pth"}
    with pytest.raises(UserError, match=r"no file .*net.pth: get it from https://example.org/net.pth, and put it"):
        load(told)
    torch.save(weights, file)
    assert load(told).name == "net"


def test_weights_without_values_or_in_coordinates_are_refused_in_a_line(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    first = weights["0.weight"]
    torch.save({**weights, "0.weight": first.to("meta")}, file)
    assert "0.weight has a shape and no values: save it from the device that holds it" in refused(declare(file))
    torch.save({**weights, "0.weight": first.to_sparse()}, file)
    assert "0.weight is sparse: save its to_dense()" in refused(declare(file))


def test_a_variance_below_zero_is_damaged(saved: tuple[Path, dict[str, Tensor]]) -> None:
    file, weights = saved
    key = next(key for key in weights if key.endswith("running_var"))
    torch.save({**weights, key: -torch.ones_like(weights[key])}, file)
    assert f"are damaged, {key} holds variances below 0" in refused(declare(file))


def test_the_last_class_and_the_size_that_a_declaration_tells_are_tried(tmp_path: Path) -> None:
    use = Spec(name="mlp_generator", args={"latent": 4, "size": 8, "hidden": [4], "num_classes": 3})
    torch.save(build("net", use).state_dict(), tmp_path / "g.pth")
    task = {"name": "generate", "latent": [4], "size": 8, "num_classes": 5}
    with pytest.raises(UserError, match=r"does not take class 4 of 5: set task\.num_classes") as error:
        load({"file": str(tmp_path / "g.pth"), "net": use.model_dump(), "task": task})
    assert "\n" not in str(error.value)
    load({"file": str(tmp_path / "g.pth"), "net": use.model_dump(), "task": {**task, "num_classes": 3}})
    with pytest.raises(UserError, match=r"task\.size is 16, and mlp_generator.* makes images of 8"):
        load({"file": str(tmp_path / "g.pth"), "net": use.model_dump(), "task": {**task, "num_classes": 3, "size": 16}})


@pytest.mark.parametrize("key", ["images", "evaluate"])
@pytest.mark.parametrize("name", ["denoise", "classify", "autoencode", "diffuse", "generate", "few_steps"])
def test_sources_of_images_in_a_declared_task_are_checked(
    saved: tuple[Path, dict[str, Tensor]], name: str, key: str
) -> None:
    if key not in arguments("task", name):
        pytest.skip(f"{name} has no {key}")
    task = {"name": name, "latent": [4], "size": 8}
    declared_task(declare(saved[0], task={**task, key: {"name": "folder", "args": {"path": "photos"}}}))
    with pytest.raises(UserError, match=f"task: .*{key} is .* not 'photos'") as error:
        declared_task(declare(saved[0], task={**task, key: "photos"}))
    assert "\n" not in str(error.value)
