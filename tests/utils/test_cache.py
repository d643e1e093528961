"""Arrays that are made once for all runs."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdgen.types import UserError
from kdgen.utils.cache import fingerprint, kept_array


def test_an_array_is_made_once_and_anew_where_it_is_damaged_or_unfit(tmp_path: Path) -> None:
    path, made = tmp_path / "folder" / "a.npy", []

    def make() -> np.ndarray:
        made.append(1)
        return np.full(3, len(made), dtype=np.float32)

    for _ in range(2):
        assert kept_array(path, make, lambda x: len(x) == 3).tolist() == [1, 1, 1]
    path.write_bytes(path.read_bytes()[:-4])
    assert kept_array(path, make, lambda x: len(x) == 3).tolist() == [2, 2, 2]
    assert kept_array(path, make, lambda x: len(x) == 4).tolist() == [3, 3, 3]
    assert [file.name for file in path.parent.iterdir() if file.suffix == ".partial"] == []


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="has no room for the teacher's images: free space"):
        kept_array(tmp_path / "a.npy", lambda: np.zeros(2), lambda x: True)
    assert not (tmp_path / "a.npy").exists()


def test_nets_are_known_by_weights_and_architecture() -> None:
    torch.manual_seed(0)
    net = nn.Linear(2, 2)
    twin = nn.Linear(2, 2)
    assert fingerprint(net) != fingerprint(twin)
    twin.load_state_dict(net.state_dict())
    assert fingerprint(net) == fingerprint(twin)
