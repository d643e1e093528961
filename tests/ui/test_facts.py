"""What a stranger's model says of its task opens nothing: no folder of this machine, no model but bundled ones."""

import json

import pytest
import torch
from safetensors.torch import save_file

from kdgen.models.model import load
from kdgen.types import UserError
from kdgen.ui import answering, teacher_files
from kdgen.ui.comparing import Options

MOST = 50_000_000
SPAN = [-1, 1]


def decoder(folder):
    """The weights of a decoder by itself."""
    path = folder / "mine.safetensors"
    save_file({key: value.clone() for key, value in load("vae").net.decoder.state_dict().items()}, path)
    return path


@pytest.fixture
def kept(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    return folder


def facts(**more):
    return {"name": "decode", "encoder": "vae", "size": 32, "channels": 3, "latent": [4, 8, 8], **more}


def declared(tmp_path, task):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"net": {"name": "vae_decoder", "args": {}}, "range": SPAN, "task": task}))
    return [decoder(tmp_path), file]


def student(tmp_path, task):
    net = {"name": "vae_decoder", "args": {"channels": 3, "latent": 4, "widths": [32, 64, 96], "blocks": 1}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"format": 1, "kdgen": "1", "name": "mine", "net": net, "channels": 3, "task": task}))
    return [decoder(tmp_path), file]


def test_a_decoder_whose_facts_are_sound_is_kept(tmp_path, kept):
    about = teacher_files.keep(declared(tmp_path, facts()), None, MOST, kept)
    assert about.task == "decode"


@pytest.mark.parametrize("images", [
    {"name": "folder", "args": {"path": "/"}}, {"name": "image_folder", "args": {"path": "."}},
    {"name": "mixture", "args": {"sources": [{"name": "folder", "args": {"path": "/tmp"}}]}},
    {"name": "samples", "args": {"model": "/tmp"}},
])  # fmt: skip
@pytest.mark.parametrize("key", ["images", "evaluate"])
def test_a_declaration_names_no_folder_of_pictures(tmp_path, kept, images, key):
    with pytest.raises(UserError, match=r"no files of this machine|names bundled ones"):
        teacher_files.keep(declared(tmp_path, facts(**{key: images})), None, MOST, kept)


@pytest.mark.parametrize("make", [declared, student])
@pytest.mark.parametrize("encoder", ["/etc", "../../x", "hub:acme/huge", "acme/huge", "~/run", "runs/app"])
def test_nor_a_model_that_is_not_bundled(tmp_path, kept, make, encoder):
    with pytest.raises(UserError, match="names bundled ones"):
        teacher_files.keep(make(tmp_path, facts(encoder=encoder)), None, MOST, kept)


def test_nor_a_declared_checkpoint(tmp_path, kept):
    other = {"file": "other.safetensors", "net": {"name": "vae_encoder"}}
    with pytest.raises(UserError):
        teacher_files.keep(declared(tmp_path, facts(encoder=other)), None, MOST, kept)


def test_a_model_of_the_hub_opens_nothing_either(tmp_path, kept, monkeypatch):
    """In Compare it is asked by what it says of its own task."""
    model = load("vae#decoder")
    model.task = facts(encoder="/etc")
    monkeypatch.setattr(answering, "load", lambda reference: model)
    monkeypatch.setattr(answering, "_kept", type(answering._kept)())
    pair = [("acme/a", "hub:acme/a@0", 0.0), ("acme/b", "hub:acme/b@0", 0.0)]
    with pytest.raises(UserError, match="names bundled ones"):
        answering.show(pair, None, Options(sigma=25, seed=0, num_images=2, num_steps=1))
    assert torch.is_tensor(next(model.parameters()))
