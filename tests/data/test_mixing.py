"""Two images in one, with the classes of both."""

import pytest
import torch
from torch import Tensor

from kdgen.data.mixing import Mix, mixed

LEVELS, LABELS = torch.arange(64.0), torch.arange(64) % 5


def parts(how: Mix, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = LEVELS[:, None, None, None].expand(-1, 3, 8, 8)
    return mixed(x, LABELS, num_classes=5, how=how, random=torch.Generator().manual_seed(seed))


def expected(share: Tensor) -> Tensor:
    one = torch.eye(5)[LABELS]
    return share[:, None] * one + (1 - share[:, None]) * one.roll(1, 0)


def test_mixup_is_a_weighted_sum_of_two_images_and_their_classes() -> None:
    x, y = parts("mixup")
    assert torch.allclose(x, x[:, :1, :1, :1])
    before = LEVELS.roll(1)
    share = (x[:, 0, 0, 0] - before) / (LEVELS - before)
    assert 0 <= share.min() < 0.1
    assert 0.9 < share.max() <= 1
    torch.testing.assert_close(y, expected(share), atol=1e-4, rtol=0)


def test_cutmix_puts_a_box_of_another_image_into_each_and_counts_pixels() -> None:
    x, y = parts("cutmix")
    own = x == LEVELS[:, None, None, None]
    assert torch.equal(~own, x == LEVELS.roll(1)[:, None, None, None])
    rows, columns = (~own[:, 0]).any(2), (~own[:, 0]).any(1)
    assert torch.equal(~own[:, 0], rows[:, :, None] & columns[:, None, :])
    torch.testing.assert_close(y, expected(own[:, 0].float().mean((1, 2))))


@pytest.mark.parametrize("how", ["mixup", "cutmix", "both"])
def test_mixtures_depend_on_the_seed_alone(how: Mix) -> None:
    assert torch.equal(parts(how)[0], parts(how)[0])
    assert not torch.equal(parts(how)[0], parts(how, seed=1)[0])


def test_both_is_one_or_the_other_by_chance() -> None:
    flat = {bool((x == x[:, :1, :1, :1]).all()) for x, _ in (parts("both", seed) for seed in range(9))}
    assert flat == {True, False}
