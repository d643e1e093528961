"""Zips of strangers: of one that holds a model's folder, its files are taken, and nothing else."""

import re
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kdgen.models.hub_cache import fetchable
from kdgen.types import UserError, text

ENTRIES, JSON_BYTES = 64, 1_000_000
"""Files of a zip, and bytes of a file of JSON, at most."""

SOUND = re.compile(r"[^/\\\x00-\x1f:]+(?:/[^/\\\x00-\x1f:]+)*")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".npz", ".npy")
CHUNK = 2**20


def unpack(file: Path, folder: Path, most: int) -> None:
    """Take the files of a model out of a zip, and nothing else.

    Raises:
        UserError: for a damaged one; paths that lead elsewhere, links, too many files or bytes; and pickles alone.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > ENTRIES:
                raise UserError(text("zip_too_many_files", "this zip holds {count:,} files: a model's folder has "
                                     "{most} at most", count=len(entries), most=ENTRIES))  # fmt: skip
            names = _sound([entry.filename for entry in entries])
            if any(stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG) for entry in entries):
                raise UserError(text("zip_link", "this zip holds a link or a device: zip the files themselves"))
            if any(entry.flag_bits & 1 for entry in entries):
                raise UserError(text("zip_password", "this zip asks for a password: zip the files without one"))
            wanted = _wanted(names)
            left = most
            for entry, name in zip(entries, names, strict=True):
                if name in wanted:
                    left = _extract(archive, entry, folder / name, left, most)
    except UserError:
        raise
    except FileExistsError:
        raise UserError(text("zip_twice", "this zip holds one file twice: zip the folder anew")) from None
    except Exception:  # decompressors raise whatever they do
        raise UserError(
            text("zip_damaged", "this zip is damaged or of a kind that is not read: zip the folder anew")
        ) from None


def _sound(names: Sequence[str]) -> list[str]:
    """Names in a zip without the folder that all of them lie in."""
    for name in names:
        if not SOUND.fullmatch(name) or {"..", "."} & set(name.split("/")):
            raise UserError(text("zip_elsewhere", "this zip holds {name!r}, a path that leads elsewhere: zip the "
                                 "folder itself", name=name[:60]))  # fmt: skip
    tops = {name.partition("/")[0] for name in names if not name.startswith("__MACOSX/")}
    inside = all("/" in name for name in names) and len(tops) == 1
    return [name.partition("/")[2] if inside else name for name in names]


def _wanted(names: Sequence[str]) -> set[str]:
    wanted = set(fetchable(names))
    if not any(name.endswith(".safetensors") for name in wanted):
        if graph := next((name for name in names if name.lower().endswith(".onnx")), None):
            raise UserError(text("zip_onnx", "this zip holds {file}: upload the .onnx file itself",
                                 file=PurePosixPath(graph).name[:60]))  # fmt: skip
        if pickle := next((name for name in names if name.endswith(PICKLES)), None):
            raise UserError(text("zip_pickle", "this zip holds its weights as {file}, which may run code when it is "
                                 "read and never is: save them as safetensors",
                                 file=PurePosixPath(pickle).name[:60]))  # fmt: skip
        raise UserError(
            text("zip_no_weights", "this zip holds no weights of a student or of a diffusers model as safetensors")
        )
    if not wanted & {"config.json", "model_index.json"}:
        raise UserError(
            text(
                "zip_no_config",
                "this zip has no config.json: upload the .safetensors file itself, and say which net it is",
            )
        )
    return {name for name in wanted if PurePosixPath(name).suffix in (".json", ".safetensors")}


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int, most: int) -> int:
    """Write a file of a zip. Returns the bytes that are left for others."""
    largest = min(left, JSON_BYTES) if target.suffix == ".json" else left
    target.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with archive.open(entry) as source, target.open("xb") as out:
        while chunk := source.read(CHUNK):
            count += len(chunk)
            if count > largest:
                raise UserError(text("zip_too_large", "what this zip holds has more than {most:,.0f} MB, or a JSON "
                                     "file of more than {most_json:g} MB: choose a smaller model", most=most / 1e6,
                                     most_json=JSON_BYTES / 1e6))  # fmt: skip
            out.write(chunk)
    return left - count


__all__ = ["CHUNK", "JSON_BYTES", "PICKLES", "unpack"]
