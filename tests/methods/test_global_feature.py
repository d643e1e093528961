import pytest
import torch
from torch import nn
from views import inputs_of

from kdgen.methods.features.global_feature import GlobalFeature
from kdgen.models.nets.efficient_ad import efficient_ad
from kdgen.models.nets.patch_features import patch_features
from kdgen.types import Batch, UserError

BATCH = Batch(x=torch.zeros(2, 1, 16, 16))


def teacher(features: int = 2, stride: int = 4) -> nn.Module:
    return nn.Conv2d(1, features, stride, stride)


def attached() -> GlobalFeature:
    method = GlobalFeature()
    method.attach(efficient_ad(channels=1, features=2, width=4, depth=0, stride=4), teacher(), BATCH)
    return method


def test_the_autoencoder_is_compared_with_the_teacher_and_its_prediction_with_it() -> None:
    local, predicted, encoded = torch.full((2, 2, 1, 2), 100.0), torch.zeros(2, 2, 1, 2), torch.zeros(2, 2, 1, 2)
    encoded[0, 0, 0, 1], predicted[0, 1, 0, 0], encoded[1, 1] = 3.0, 2.0, 1.0
    said = torch.zeros(2, 2, 1, 2)
    said[1] = 2.0
    together = torch.cat([local, predicted, encoded], dim=1)
    loss = attached().loss(inputs_of(None, said, {"parts": together}))
    first = 9 / 4 + (9 + 4) / 4
    second = (4 + 4 + 1 + 1) / 4 + (1 + 1) / 4
    assert loss.tolist() == pytest.approx([first, second])


def test_the_autoencoder_learns_of_both_and_the_first_half_of_the_student_of_neither() -> None:
    together = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1).repeat_interleave(2, 1).requires_grad_()
    attached().loss(inputs_of(None, torch.zeros(1, 2, 1, 1), {"parts": together})).sum().backward()
    local, predicted, encoded = together.grad.flatten().view(3, 2).tolist()
    assert local == [0, 0]
    assert predicted == [2 - 4, 2 - 4]
    assert encoded == [4 + (4 - 2), 4 + (4 - 2)]


def test_a_student_without_an_autoencoder_and_one_of_other_channels_are_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="PatchFeatures has none: set student to efficient_ad, or leave the method out"):
        GlobalFeature().attach(patch_features(channels=1, features=2, width=4, stride=4), teacher(), BATCH)
    with pytest.raises(UserError, match="global_feature cannot compare 3 channels"):
        GlobalFeature().attach(efficient_ad(channels=1, features=3, width=4, stride=4), teacher(), BATCH)
