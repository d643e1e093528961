"""What tests bring as visitors do."""

import zipfile

import torch
from PIL import Image
from safetensors.torch import save_file

from kdgen import registry
from kdgen.models.loading import BUNDLED
from kdgen.registry import Spec


def zipped(path, files, **changed):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changed.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    return path


def student_files():
    return {name: (BUNDLED / "denoiser" / name).read_bytes() for name in ("config.json", "model.safetensors")}


def photographs(tmp_path, count=5, side=80):
    paths = [tmp_path / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.effect_noise((side, side), 60).save(path)
    return paths


def weights(path, **args):
    torch.manual_seed(0)
    save_file(registry.build("net", Spec(name="dncnn", args=args)).state_dict(), path)
    return path
