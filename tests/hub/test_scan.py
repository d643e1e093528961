"""What must never be sent is not, and is named."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file

from kdgen.hub import push_to_hub
from kdgen.hub.scan import objection, without_paths
from kdgen.types import UserError

from .conftest import WRITER, RunContext
from .server import Hub

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWx"


def sent(hub: Hub, name: str) -> dict[str, bytes]:
    repo = hub.store.repos["model", name]
    return {path: hub.store.read(file) for path, file in repo.commits[repo.refs["main"]].items()}


def test_planted_files_are_named_and_not_sent(hub: Hub, place: RunContext, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes((trained / "samples.png").read_bytes())
    (trained / "samples.png").unlink()
    (trained / "samples.png").symlink_to(tmp_path / "secret.png")
    (trained / "student" / "extra.safetensors").symlink_to(tmp_path / "secret.png")
    (trained / "student" / "weights.pkl").write_bytes(pickle.dumps({"a": 1}))
    (trained / "notes.md").write_text(f"my token is {TOKEN}\n")
    (trained / "report.md").write_text((trained / "report.md").read_text() + f"\n{TOKEN}\n")
    recipe = json.loads((trained / "recipe.json").read_text())
    (trained / "recipe.json").write_text(json.dumps({**recipe, "teacher": "/home/grace/models/big"}))
    pushed = push_to_hub(trained, name := place.name("planted"))
    files, notes = sent(hub, name), "\n".join(pushed.notes)
    assert files.keys() - {".gitattributes"} == {
        "config.json", "model.safetensors", "README.md", "recipe.json", "report.json", "curves.png", "gallery.png",
    }  # fmt: skip
    everything = b"".join(files.values()) + b"".join(path.read_bytes() for path in hub.store.blobs.iterdir())
    for secret in (TOKEN.encode(), WRITER.encode(), b"/home/grace", str(tmp_path).encode(), pickle.dumps({"a": 1})):
        assert secret not in everything
    for words in ("not sent: samples.png is a symbolic link out", "not sent: weights.pkl is no part of a student",
                  "not sent: extra.safetensors is no part of a student", "not sent: notes.md is no part of a student",
                  "not sent: report.md holds what looks like a token", "/home/grace/models/big is cut"):  # fmt: skip
        assert words in notes
    assert json.loads(files["recipe.json"])["teacher"] == "big"
    assert TOKEN not in notes


@pytest.mark.parametrize(
    ("text", "words"), [("/home/grace/secret/place", "home folder, /home/grace"), (TOKEN, "token")]
)
def test_weights_that_carry_a_secret_stop_everything(
    hub: Hub, trained: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/grace")
    file = trained / "student" / "model.safetensors"
    save_file(load_file(file), file, metadata={"made_in": text})
    with pytest.raises(UserError, match=f"nothing was sent.*model.safetensors holds .*{words}"):
        push_to_hub(trained, "acme/never")
    assert hub.seen == []


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.md", TOKEN.encode(), "token"),
        ("a.md", b"AKIAABCDEFGHIJKLMNOP", "token"),
        ("a.md", b"-----BEGIN RSA PRIVATE KEY-----", "token"),
        ("LICENSE", b"-----BEGIN OPENSSH PRIVATE KEY-----", "token"),
        ("a.md", b"see /home/grace.", "home folder, /home/grace"),
        ("a.json", b'{"dir": "file:///home/grace/x"}', "home folder, /home/grace"),
        ("a.json", b"\x80\x04K\x01.", "not what its name says"),
        ("a.png", pickle.dumps({"a": 1}), "not what its name says"),
        ("a.safetensors", pickle.dumps({"a": 1}), "not what its name says"),
        ("a.pkl", pickle.dumps({"a": 1}), "no kind that is published"),
        ("a.npz", b"", "no kind that is published"),
        ("id_rsa", b"", "no kind that is published"),
        (".env", b"", "no kind that is published"),
        ("a.md", b"and/or 1/2 https://huggingface.co/home/grace of /home/graces and ~/.cache/kdgen", None),
        ("a.md", b"made by grace, of a disgraceful grace-note", None),
        ("a.txt", b"", None),
        ("LICENSE", b"MIT", None),
    ],
)
def test_objections(name: str, data: bytes, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/grace")
    (tmp_path / name).write_bytes(data)
    reason = objection(tmp_path / name)
    assert (reason is None) if words is None else (reason is not None and words in reason)


def test_notes_within_a_picture_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/grace")
    info = PngImagePlugin.PngInfo()
    info.add_text("Source", "/home/grace/camera/1.raw", zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    assert "home folder" in str(objection(tmp_path / "a.png"))


def test_paths_are_cut_to_their_last_part() -> None:
    text, found = without_paths("by /home/grace/photos/ and D:\\x\\y.png of a/b")
    assert text == "by photos and y.png of a/b"
    assert found == ["/home/grace/photos/", "D:\\x\\y.png"]
    data = {"path": "/home/José María/my photos/", "b": ["D:\\x\\y.png", "a/b", 1.5], "c": "see /tmp/x."}
    text, found = without_paths(json.dumps(data))
    assert json.loads(text) == {"path": "my photos", "b": ["y.png", "a/b", 1.5], "c": "see x."}
    assert found == [data["path"], "D:\\x\\y.png", "/tmp/x."]


def test_a_home_written_in_escapes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/josé")
    (tmp_path / "a.json").write_text(json.dumps({"path": "/home/josé/x"}))
    assert "josé" in str(objection(tmp_path / "a.json"))


def test_weights_whose_header_begins_as_a_pickle_does_are_weights(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata={"x": ""})
    room = 640 - int.from_bytes(file.read_bytes()[:8], "little")
    save_file({"a": torch.zeros(1)}, file, metadata={"x": "y" * room})
    assert file.read_bytes()[:2] == b"\x80\x02"
    assert objection(file) is None
