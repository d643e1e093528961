"""Files that a visitor may bring, as an attacker would make them."""

import json
import stat
import struct
import zipfile

import pytest
from bringing import photographs, student_files, weights, zipped
from PIL import Image

from kdgen.models.loading import BUNDLED
from kdgen.types import UserError
from kdgen.ui import own, picture_files, teacher_files, zips
from kdgen.ui.bring import declaration
from kdgen.ui.limits import Limits

MOST = 5_000_000


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "kept"
    made.mkdir()
    return made


@pytest.mark.parametrize("name", [
    "../config.json", "/etc/config.json", "a/../../config.json", "..\\config.json", "C:/config.json", "a/./config.json",
    "config.json\x01",
])  # fmt: skip
def test_paths_in_a_zip_lead_nowhere_else(tmp_path, folder, name):
    hostile = zipped(tmp_path / "a.zip", {**student_files(), name: b"{}"})
    with pytest.raises(UserError, match="leads elsewhere"):
        zips.unpack(hostile, folder, MOST)
    assert list(tmp_path.iterdir()) == [hostile, folder] or set(tmp_path.iterdir()) == {hostile, folder}
    assert not list(folder.iterdir())


def test_links_in_a_zip_are_refused(tmp_path, folder):
    link = (stat.S_IFLNK | 0o777) << 16
    hostile = zipped(tmp_path / "a.zip", {"config.json": b"/etc/passwd", "model.safetensors": b"x"}, external_attr=link)
    with pytest.raises(UserError, match="a link"):
        zips.unpack(hostile, folder, MOST)


def test_a_zip_bomb_is_not_unpacked(tmp_path, folder):
    bomb = zipped(tmp_path / "a.zip", {"config.json": b"{}", "model.safetensors": bytes(50_000_000)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match="more than 5 MB"):
        zips.unpack(bomb, folder, MOST)
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= MOST + zips.CHUNK


def test_a_configuration_that_is_a_bomb_is_not_unpacked(tmp_path, folder):
    bomb = zipped(tmp_path / "a.zip", {"config.json": bytes(4_000_000), "model.safetensors": b"x"})
    with pytest.raises(UserError, match="1 MB"):
        zips.unpack(bomb, folder, MOST)


def test_a_size_that_lies_is_found_out(tmp_path, folder):
    bomb = zipped(tmp_path / "a.zip", {"config.json": b"{}", "model.safetensors": bytes(50_000_000)})
    data = bytearray(bomb.read_bytes())
    data = data.replace(struct.pack("<I", 50_000_000), struct.pack("<I", 10))
    bomb.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        zips.unpack(bomb, folder, MOST)


def test_many_files_one_twice_nonsense_and_passwords(tmp_path, folder):
    many = zipped(tmp_path / "a.zip", {**student_files(), **{f"{number}.txt": b"" for number in range(100)}})
    with pytest.raises(UserError, match="102 files"):
        zips.unpack(many, folder, MOST)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name, data in student_files().items():
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("config.json", b"{}")
    with pytest.raises(UserError, match="twice"):
        zips.unpack(tmp_path / "b.zip", folder, MOST)
    for text in (b"", b"PK\x03\x04" + bytes(100), b"not a zip"):
        (tmp_path / "c.zip").write_bytes(text)
        with pytest.raises(UserError, match="damaged"):
            zips.unpack(tmp_path / "c.zip", folder, MOST)
    locked = zipped(tmp_path / "d.zip", student_files())
    data = bytearray(locked.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(magic)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(magic, at + 4)
    locked.write_bytes(data)
    with pytest.raises(UserError, match="password"):
        zips.unpack(locked, folder, MOST)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl", "model.ckpt"])
def test_pickles_in_a_zip_are_never_opened(tmp_path, folder, name):
    hostile = zipped(tmp_path / "a.zip", {"config.json": b"{}", name: b"cos\nsystem\n(S'touch /tmp/pwned'\ntR."})
    with pytest.raises(UserError, match="may run code"):
        teacher_files.keep([hostile], None, MOST, folder)


def test_of_a_zip_nothing_but_a_model_is_kept(tmp_path, folder):
    files = {f"mine/{name}": data for name, data in student_files().items()}
    more = {"mine/evil.py": b"import os", "mine/__init__.py": b"", "mine/README.md": b"x", "mine/a.bin": b"x"}
    about = teacher_files.keep([zipped(tmp_path / "mine.zip", {**files, **more})], None, MOST, folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert (about.kind, about.name, about.task) == ("teacher", "mine", "denoise")


@pytest.mark.parametrize(("data", "line"), [
    (b"", "no safetensors"),
    (struct.pack("<Q", 2**63), "no safetensors"),
    (struct.pack("<Q", 90) + b"{}", "no safetensors"),
    (struct.pack("<Q", 4_000_001) + b" " * 4_000_001, "header of 4,000,001"),
    (struct.pack("<Q", 2) + b"[]", "no safetensors"),
    (struct.pack("<Q", 2) + b"{}", "damaged"),
    (struct.pack("<Q", 100_000) + b"[" * 100_000, "no safetensors"),
    (b"\x80\x04cos\nsystem\n(S'touch /tmp/pwned'\ntR.", "no safetensors"),
])  # fmt: skip
def test_headers_of_weights_are_judged(tmp_path, folder, data, line):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=line):
        teacher_files.keep([tmp_path / "a.safetensors"], {"net": {"name": "dncnn"}}, MOST, folder)


@pytest.mark.parametrize("offsets", [[0, 2**60], [-8, 0], [8, 0], [0, 1.5], "ab", [0], None, [True, True]])
def test_offsets_that_lead_out_of_the_file(tmp_path, folder, offsets):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(UserError):
        teacher_files.keep([tmp_path / "a.safetensors"], {"net": {"name": "dncnn"}}, MOST, folder)


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.py", "a.safetensors.pkl"])
def test_other_files_are_refused(tmp_path, folder, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"taken as .safetensors or .onnx"):
        teacher_files.keep([tmp_path / name], None, MOST, folder)


@pytest.mark.parametrize("args", [{"width": 10**6}, {"depth": 10**9}, {"width": [1, 10**7]}, {"config": "../../x"},
                                  {"model": "denoiser"}])  # fmt: skip
def test_nets_of_any_size_are_not_built(tmp_path, folder, args):
    file = weights(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"at most|path|argument"):
        teacher_files.keep([file], {"net": {"name": "dncnn", "args": args}}, MOST, folder)
    config = {"kdgen": "1", "name": "a", "channels": 1, "net": {"name": "dncnn", "args": args}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"at most|path|argument"):
        teacher_files.keep([file, tmp_path / "config.json"], None, MOST, folder)


@pytest.mark.parametrize(("net", "args"), [("compact", {"scale": 64}), ("edsr", {"scale": 1000}),
                                           ("kuwahara", {"radius": 4096}), ("kuwahara", {"passes": 10**4})])  # fmt: skip
def test_nets_of_images_are_not_built_in_any_size_either(tmp_path, folder, net, args):
    file = weights(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="at most"):
        teacher_files.keep([file], {"net": {"name": net, "args": args}}, MOST, folder)


@pytest.mark.parametrize("file", ["/etc/passwd", "../../secret.safetensors", "~/x.pt"])
def test_a_declaration_names_no_other_file(tmp_path, folder, file):
    net = {"name": "dncnn", "args": {"depth": 3, "width": 8}}
    (tmp_path / "mine.json").write_text(json.dumps({"file": file, "net": net}))
    teacher_files.keep(
        [weights(tmp_path / "a.safetensors", depth=3, width=8), tmp_path / "mine.json"], None, MOST, folder
    )
    assert json.loads((folder / own.DECLARATION).read_text())["file"] == "model.safetensors"


def test_what_is_declared_is_tried_and_said_without_paths(tmp_path, folder):
    file = weights(tmp_path / "mine.safetensors", depth=3, width=8)
    with pytest.raises(UserError) as refused:
        teacher_files.keep([file], declaration("dncnn", "depth=4, width=8", "[0, 1]", "residual", ""), MOST, folder)
    assert "missing" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    with pytest.raises(UserError, match="no net of the list"):
        declaration("os.system", "", "[0, 1]", "image", "")
    about = teacher_files.keep([file], declaration("dncnn", "depth=3, width=8", "[0, 1]", "residual", ""), MOST, folder)
    assert about.name == "mine"


def test_a_wrong_reading_is_refused_with_the_figures(tmp_path, folder):
    config = json.loads((BUNDLED / "denoiser" / "config.json").read_text())
    args = ", ".join(f"{name}={json.dumps(value)}" for name, value in config["net"]["args"].items())
    family, file = config["net"]["name"], BUNDLED / "denoiser" / "model.safetensors"
    with pytest.raises(UserError, match=r"dB; range .* gives .* dB"):
        teacher_files.keep([file], declaration(family, args, "[0, 1]", "residual", ""), MOST, folder)


def test_pictures_are_written_anew_and_bounded(tmp_path, folder):
    paths = photographs(tmp_path)
    Image.effect_noise((1500, 1000), 60).save(paths[0])
    paths[1].write_bytes(paths[1].read_bytes() + b"<script>")
    picture_files.keep(paths, Limits(), folder)
    with Image.open(folder / "000.png") as image:
        assert image.width * image.height <= Limits().pixels
    assert b"<script>" not in (folder / "001.png").read_bytes()
    for wrong in (paths[:4], paths * 50):
        with pytest.raises(UserError, match="5 to 200"):
            picture_files.keep(wrong, Limits(), folder)
    paths[2].write_text("<svg/>")
    with pytest.raises(UserError, match=r"2\.png: this is no PNG"):
        picture_files.keep(paths, Limits(), folder)
    small = photographs(tmp_path, side=40)
    with pytest.raises(UserError, match="64 a side"):
        picture_files.keep(small, Limits(), folder)
