"""Pulling: from the cache, without a network, and never anything that could do harm."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save

from kdgen.hub import pull, push_to_hub
from kdgen.models.hub_cache import HubId, WorldError, commit_of
from kdgen.models.model import Model, load
from kdgen.types import UserError

from .conftest import RunContext, call
from .server import Fault, Hub

Make = Callable[..., Model]


def config(**changes: Any) -> bytes:
    use = {"name": "dncnn", "args": {"depth": 2, "width": 2, "channels": 1}}
    whole = {"format": 1, "kdgen": "0.1.0", "name": "tiny", "net": use, "channels": 1, "task": {}}
    return json.dumps({**whole, **changes}).encode()


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch sprung",)


WEIGHTS = {
    "0.weight": torch.zeros(2, 1, 3, 3),
    "0.bias": torch.zeros(2),
    "2.weight": torch.zeros(1, 2, 3, 3),
    "2.bias": torch.zeros(1),
}
UNFIT = {**WEIGHTS, "0.weight": torch.zeros(5, 1, 3, 3)}
FEWER = {key: WEIGHTS[key] for key in list(WEIGHTS)[1:]}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": config(), "pytorch_model.bin": pickle.dumps(Trap())}, "may run code"),
        ({"config.json": config(net={"name": "evil_net", "args": {}}), "model.safetensors": save(WEIGHTS)}, "evil_net"),
        (
            {
                "config.json": config(net={"name": "lora", "args": {"model": "/home/ada/pipeline"}}),
                "pytorch_lora_weights.safetensors": save(WEIGHTS),
            },
            "its configuration names /home/ada/pipeline",
        ),
        ({"config.json": b'{"_class_name": "EvilModel"}', "model.safetensors": save(WEIGHTS)}, "EvilModel"),
        (
            {"model_index.json": b'{"_class_name": "EvilPipeline"}', "unet/diffusion_pytorch_model.safetensors": b""},
            "EvilPipeline",
        ),
        ({"config.json": config(), "model.safetensors": save(FEWER)}, "0.weight"),
        ({"config.json": config(), "model.safetensors": save(UNFIT)}, "size mismatch"),
        ({"config.json": config(), "model.safetensors": pickle.dumps(Trap())}, "damaged"),
        ({"config.json": config(), "model.safetensors": save(WEIGHTS), "../../x": b"out"}, "leads elsewhere"),
        ({"config.json": config(), "model.safetensors": save(WEIGHTS), "/x": b"out"}, "leads elsewhere"),
        ({"config.json": config(), "model.safetensors": save(WEIGHTS), "a\\..\\x": b"out"}, "leads elsewhere"),
        (
            {"config.json": config(format=2, kdgen="9.9"), "model.safetensors": save(WEIGHTS)},
            "written by kdgen 9.9.*upgrade",
        ),
        ({"config.json": config(format=0, kdgen="0.0.1"), "model.safetensors": save(WEIGHTS)}, "no longer read"),
        (
            {
                "config.json": config(task={"name": "denoise", "images": {"name": "folder"}}),
                "model.safetensors": save(WEIGHTS),
            },
            "task.images",
        ),
        ({"config.json": b"[" * 100000, "model.safetensors": save(WEIGHTS)}, "damaged"),
        ({"model.safetensors": save(WEIGHTS)}, "cannot know"),
        ({"README.md": b"nothing"}, "no weights"),
    ],
)
def test_refused(
    hub: Hub, place: RunContext, tmp_path: Path, files: dict[str, bytes], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = place.name("bad")
    hub.store.plant(name, files)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words) as caught:
        load(name)
    assert len(str(caught.value).splitlines()) == 1
    assert call("pull", name, "--to", "here") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before, "nothing is written or executed"
    assert not any("EvilP" in line or line.endswith((".bin", "x")) for line in hub.seen if "/resolve/" in line)


def test_shards_that_lie_elsewhere_or_are_pickles_are_refused(
    hub: Hub, place: RunContext, student: Make, tmp_path: Path
) -> None:
    task = {"name": "diffuse", "size": 8, "channels": 1}
    student("unet2d", task, size=8, block_out_channels=[8, 8], norm_num_groups=4, attention_levels=0).save(
        tmp_path / "s"
    )
    files = {
        path.relative_to(tmp_path / "s").as_posix(): path for path in (tmp_path / "s").rglob("*") if path.is_file()
    }
    weights = "unet/diffusion_pytorch_model"
    (tmp_path / "trap.bin").write_bytes(pickle.dumps(Trap()))
    for elsewhere in (tmp_path / "trap.bin", files[f"{weights}.safetensors"]):
        index = {"metadata": {"total_size": 1}, "weight_map": {"conv_in.weight": f"../../../../../..{elsewhere}"}}
        planted = {name: path.read_bytes() for name, path in files.items() if not name.startswith(weights)}
        planted |= {f"{weights}.safetensors.index.json": json.dumps(index).encode(),
                    f"{weights}-1-of-1.safetensors": bytes(16)}  # fmt: skip
        hub.store.plant(name := place.name("shards"), planted)
        with pytest.raises(UserError, match="damaged or do not fit"):
            load(name)
    assert not Path("sprung").exists()


def test_what_is_refused_by_its_configuration_costs_no_download(hub: Hub, place: RunContext) -> None:
    name = place.name("heavy")
    hub.store.plant(
        name,
        {"model_index.json": b'{"_class_name": "HugePipeline"}', "unet/diffusion_pytorch_model.safetensors": b"x" * 10},
    )
    with pytest.raises(UserError, match="HugePipeline"):
        load(name)
    assert not any(line.endswith(".safetensors") for line in hub.seen)


def test_only_files_of_a_student_are_fetched(hub: Hub, place: RunContext) -> None:
    name = place.name("more")
    hub.store.plant(name, {"config.json": config(), "model.safetensors": save(WEIGHTS), "run.py": b"boom", "x/y.pkl": b"boom",
                           "model.fp16.safetensors": b"x"})  # fmt: skip
    home = load(name).home
    assert home is not None
    assert {path.name for path in home.rglob("*")} == {"config.json", "model.safetensors"}
    (home / "pytorch_model.bin").write_bytes(b"left by another program")
    pull(HubId(name), Path("here"))
    assert {path.name for path in Path("here").rglob("*")} == {"config.json", "model.safetensors"}


def test_what_was_pulled_works_without_the_hub(
    hub: Hub, place: RunContext, student: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = place.name("kept")
    push_to_hub(student(), name)
    x = torch.rand(1, 1, 8, 8)
    expected = load(name).restore(x)
    hub.faults.append(Fault(".", 503, times=1000))
    assert torch.equal(load(name).restore(x), expected)
    hub.faults.clear()
    hub.faults.append(Fault(".", 0, times=1000))
    assert torch.equal(load(name).restore(x), expected)
    hub.seen.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(load(name).restore(x), expected)
    assert hub.seen == []
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids"):
        load(place.name("never"))


def test_what_another_program_left_whole_in_the_cache_works_without_the_hub(
    hub: Hub, place: RunContext, student: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, commit = place.name("laid"), "a" * 40
    repository = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    student().save(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    hub.seen.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load(name).fingerprint() == student().fingerprint()
    assert commit_of(HubId(name)) == commit
    assert load(f"{name}@{commit}").fingerprint() == student().fingerprint()
    (repository / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        load(name)
    assert hub.seen == []


def test_a_folder_of_a_repository_and_weights_in_half_precision_alone(
    hub: Hub, place: RunContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]}
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=4, **blocks)
    vae.half().save_pretrained(tmp_path / "vae", variant="fp16")
    files = {f"vae/{path.name}": path.read_bytes() for path in (tmp_path / "vae").iterdir()}
    others = {"model_index.json": b'{"_class_name": "StableDiffusionUpscalePipeline"}', "unet/config.json": b"{}",
              "unet/diffusion_pytorch_model.safetensors": b"x"}  # fmt: skip
    hub.store.plant(name := place.name("sd"), {**files, **others})
    with pytest.raises(UserError, match="its vae by itself: write /vae behind its name"):
        load(name)
    hub.seen.clear()
    opened = load(f"{name}/vae")
    assert torch.equal(opened.net.vae.decoder.conv_in.weight, vae.decoder.conv_in.weight.float())  # type: ignore
    assert not any("/unet/" in line for line in hub.seen)
    assert load(f"hub:{name}/vae@main#decoder").task["name"] == "decode"
    assert call("pull", f"{name}/vae", "--to", "here") == 0
    assert load("here").fingerprint() == opened.fingerprint()
    hub.store.plant(other := place.name("alone"), files)
    with pytest.raises(UserError, match="no folder unet"):
        load(f"{other}/unet")


def test_a_download_that_is_cut_short_is_taken_up(hub: Hub, place: RunContext, student: Make) -> None:
    name = place.name("cut")
    push_to_hub(student(), name)
    hub.faults.append(Fault("GET /cdn/", 0))
    assert load(name).use == student().use


def test_the_original_pipelines_lie_flat(hub: Hub, place: RunContext, student: Make, tmp_path: Path) -> None:
    model = student("unet2d", {"name": "diffuse", "size": 8, "channels": 1}, size=8, block_out_channels=[8, 8],
                    norm_num_groups=4, attention_levels=0)  # fmt: skip
    model.save(tmp_path / "saved")
    flat = {path.name: path.read_bytes() for path in sorted((tmp_path / "saved").rglob("*")) if path.is_file()}
    flat["config.json"] = (tmp_path / "saved" / "unet" / "config.json").read_bytes()
    name = place.name("flat")
    hub.store.plant(name, flat)
    loaded = load(name)
    assert loaded.name == name.partition("/")[2]
    assert torch.equal(loaded.draw(1, num_steps=2), model.draw(1, num_steps=2))


def test_pull_to_a_folder(place: RunContext, student: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pushed = push_to_hub(student(), name := place.name("to"))
    assert call("pull", name, "--to", "here", "--revision", str(pushed.commit)) == 0
    assert capsys.readouterr().out == "here\n"
    assert not any(path.is_symlink() for path in Path("here").rglob("*"))
    assert load("here").fingerprint() == student().fingerprint()
    with pytest.raises(UserError, match="in use"):
        pull(HubId(name), Path("here"))


def test_every_command_takes_an_id_for_a_model(
    place: RunContext, student: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restorer, drawer = place.name("restorer"), place.name("drawer")
    push_to_hub(student(), restorer)
    task = {"name": "generate", "latent": [4], "size": 8, "channels": 1}
    push_to_hub(student("mlp_generator", task, latent=4, hidden=[6], size=8), drawer)
    (tmp_path / "pictures").mkdir()
    Image.new("L", (24, 24), 90).save(picture := tmp_path / "pictures" / "flat.png")
    data = ("--data", str(tmp_path / "pictures"))
    assert call("restore", restorer, str(picture), "clean.png") == 0
    assert call("evaluate", f"hub:{restorer}", *data) == 0
    assert call("compare", restorer, f"{restorer}@main", *data) == 0
    assert call("propose", restorer, "--macs", "0.9") == 0
    assert call("generate", drawer, "drawn.png", "--num-images", "2") == 0
    assert {path.name for path in Path().iterdir()} == {"clean.png", "drawn.png"}


def test_nothing_in_the_cache_and_no_hub(hub: Hub, place: RunContext) -> None:
    hub.faults.append(Fault(".", 503, times=1000))
    hub.faults[0].headers["Retry-After"] = "3600"
    with pytest.raises(WorldError, match="error 503"):
        load(place.name("nowhere"))
    assert not list(Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*"))
