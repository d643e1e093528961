"""Pictures and a net of known values."""

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

RAMP = np.linspace(0, 255, 24 * 32).reshape(24, 32)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)


class Half(nn.Module):
    """Every pixel half as far from black."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        return (x + 1) * self.factor - 1


def png16(path: Path, array: NDArray[np.uint16]) -> Path:
    """A 16-bit PNG of C channels, which Pillow writes for greys alone; rows are filtered in all ways in turn."""
    height, width, channels = array.shape
    data = array.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    step, above, rows = 2 * channels, np.zeros(data.shape[1], int), b""
    for number, row in enumerate(data):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        guess = left + above - corner
        near = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)]).argmin(0)
        paeth = np.choose(near, [left, above, corner])
        kind = number % 5
        filtered = (row - [0, left, above, (left + above) // 2, paeth][kind]) % 256
        rows += bytes([kind]) + filtered.astype(np.uint8).tobytes()
        above = row

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path
