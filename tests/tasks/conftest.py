"""Pictures that several tests of tasks are about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three plain colours, a class each, of about the same grey."""
    path = tmp_path_factory.mktemp("colours")
    for number, colour in enumerate(COLOURS):
        Image.fromarray(np.full((32, 32, 3), colour, np.uint8)).save(path / f"{number}.png")
    return path
