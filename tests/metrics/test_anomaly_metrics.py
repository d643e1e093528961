import math

import pytest
import torch

from kdgen.metrics.anomaly import au_pro, image_auroc, pixel_auroc, regions


def row(text: str) -> torch.Tensor:
    """A mask of one row, a picture of one pixel's height."""
    return torch.tensor([[[each == "x" for each in text]]])


def test_pictures_are_scored_by_the_largest_value_of_their_maps() -> None:
    maps = torch.tensor([[[0.0, 5.0]], [[4.0, 4.0]], [[0.0, 6.0]]])
    assert image_auroc(maps, torch.tensor([True, False, True])) == 1
    assert image_auroc(maps, torch.tensor([True, False, False])) == 0.5


def test_pixels_count_over_all_pictures() -> None:
    maps = torch.tensor([[[1.0, 4.0]], [[2.0, 3.0]]])
    assert pixel_auroc(maps, torch.cat([row(".x"), row("..")])) == 1
    assert pixel_auroc(maps, torch.cat([row(".."), row("x.")])) == pytest.approx(1 / 3)


def test_regions_touch_by_a_side_or_a_corner_and_end_with_their_picture() -> None:
    masks = torch.tensor(
        [[[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]]
    ).bool()
    numbers = regions(masks)
    assert sorted(numbers.unique().tolist()) == [0, 1, 2, 3, 4]
    assert numbers.flatten().bincount().tolist()[1:] == [2, 2, 2, 1]
    assert torch.equal(numbers > 0, masks)
    spiral = torch.zeros(1, 7, 7, dtype=torch.bool)
    for rows, columns in ((0, slice(0, 7)), (slice(0, 7), 6), (6, slice(0, 7)), (slice(2, 7), 0), (2, slice(0, 5))):
        spiral[0, rows, columns] = True
    assert regions(spiral).max() == 1


def test_the_overlap_of_regions_integrated_by_hand() -> None:
    masks = row("x.xx......")
    maps = torch.tensor([[[10.0, 8, 9, 7, 6, 5, 4, 3, 2, 1]]])
    # overlaps .5, .75 at rate 0; .75, then 1 at rate 1/7; 1 from there to the limit
    assert au_pro(maps, masks) == pytest.approx((0.75 / 7 + 0.3 - 1 / 7) / 0.3)
    assert au_pro(maps, masks, limit=1) == pytest.approx(0.75 / 7 + 6 / 7)


def test_a_region_counts_the_same_however_large() -> None:
    masks = row("x.xxxxxxxx.....")
    only_the_large = torch.where(torch.arange(15) > 1, masks[0, 0].float(), 0.0).view(1, 1, 15)
    # half the overlap at rate 0, on a line to all of it at rate 1
    assert au_pro(only_the_large, masks) == pytest.approx(0.5 + 0.15 / 2)


def test_perfect_maps_have_1_and_flat_ones_what_chance_has() -> None:
    masks = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.7
    assert au_pro(masks.float(), masks) == pytest.approx(1)
    assert au_pro(torch.zeros(2, 9, 9), masks) == pytest.approx(0.15)


def test_without_faults_or_without_anything_else_there_is_none() -> None:
    assert math.isnan(au_pro(torch.zeros(1, 1, 2), row("..")))
    assert math.isnan(au_pro(torch.zeros(1, 1, 2), row("xx")))
    assert math.isnan(au_pro(torch.tensor([[[0.0, math.nan]]]), row("x.")))
