"""Which layers teach which."""

import pytest
import torch
from torch import nn

from kdgen.methods.features.attention import Attention
from kdgen.methods.features.feature import Feature
from kdgen.methods.features.relation import Relation
from kdgen.methods.layer_matching import choose, layers, probe
from kdgen.types import Batch, UserError


def test_layers_are_weights_with_what_follows(tiny, batch):
    found = layers(tiny(depth=4), batch.x, batch.cond, (2, 4))
    assert [layer.path for layer in found] == ["head", "body.2", "body.5"]
    assert [layer.depth for layer in found] == [0.25, 0.5, 0.75]
    assert found[0].shape == (2, 6, 8, 8)


def test_pairs_stand_evenly_in_depth(tiny, batch):
    pairs = choose("feature", tiny(depth=8), tiny(depth=17), batch, None, num_pairs=3)
    assert [pair.student.depth for pair in pairs] == [0.25, 0.5, 0.75]
    assert all(abs(pair.student.depth - pair.teacher.depth) <= 0.51 / 17 for pair in pairs)
    assert [pair.teacher.path for pair in pairs] == sorted((p.teacher.path for p in pairs), key=lambda p: int(p[5:]))


def test_a_shallow_student_gets_fewer_pairs(tiny, batch):
    pairs = choose("feature", tiny(depth=3), tiny(depth=17), batch, None, num_pairs=5)
    assert [pair.student.path for pair in pairs] == ["head", "body.2"]


def test_equal_sizes_are_preferred(batch):
    class Hourglass(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter = nn.Conv2d(1, 4, 3, padding=1)
            self.down = nn.Conv2d(4, 8, 2, 2)
            self.deep = nn.Conv2d(8, 8, 3, padding=1)
            self.up = nn.ConvTranspose2d(8, 4, 2, 2)
            self.leave = nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, x, **cond):
            return self.leave(self.up(self.deep(self.down(self.enter(x)))))

    class Plain(nn.Sequential):
        def forward(self, x, **cond):
            return super().forward(x)

    plain = Plain(*[nn.Conv2d(1 if i == 0 else 4, 4 if i < 4 else 1, 3, padding=1) for i in range(5)])
    pairs = choose("feature", plain, Hourglass(), batch, None, num_pairs=3)
    assert {pair.teacher.path for pair in pairs} <= {"enter", "up"}


def test_own_taps_are_kept_to(tiny, batch):
    class Named(tiny):
        def feature_layers(self):
            return ["body.2", "body.5"]

    assert [layer.path for layer in layers(Named(), batch.x, batch.cond, (4,))] == ["body.2", "body.5"]
    method = Feature()
    method.attach(Named(), tiny(), batch)
    assert method.student_layers == ("body.2", "body.5")


def test_explicit_pairs(nets, batch):
    method = Attention(pairs=[["body.0", "body.3"], ["body.5", "body.3"]])
    method.attach(*nets, batch)
    assert method.student_layers == ("body.0", "body.5")
    assert method.teacher_layers == ("body.3",)


class Dense(nn.Module):
    """Fully connected, one vector an image."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(64, 16)
        self.deep = nn.Linear(16, 16)
        self.leave = nn.Linear(16, 64)
        self.spare = nn.ModuleList([nn.Linear(2, 2)])

    def forward(self, x, **cond):
        return self.leave(self.deep(self.enter(x.flatten(1)))).view_as(x)


def test_vectors_pair_with_vectors(batch, make_view):
    method = Feature(num_pairs=2)
    loss = method.loss(make_view(method, Dense(), Dense(), batch))
    assert loss.shape == (4,)


def test_relation_pairs_vectors_with_maps(tiny, batch, make_view):
    method = Relation()
    loss = method.loss(make_view(method, Dense(), tiny(), batch))
    assert loss.shape == (4,)
    assert torch.isfinite(loss).all()


def test_nets_without_fitting_layers_are_told_what_they_have(tiny, batch):
    with pytest.raises(
        UserError, match=r"attention: no layer of the student gives \(B, C, H, W\); Dense has enter \(16,\)"
    ):
        Attention().attach(Dense(), tiny(), batch)
    with pytest.raises(
        UserError, match=r"feature: no layers of student and teacher are of one kind; Dense has .*; Tiny has"
    ):
        Feature().attach(Dense(), tiny(), batch)
    with pytest.raises(UserError, match="Identity has no layers that can be read"):
        Feature().attach(Bare(), tiny(), batch)


class Bare(nn.Module):
    def forward(self, x, **cond):
        return x


Bare.__name__ = "Identity"


def test_unfit_explicit_layers_are_refused(tiny, batch):
    with pytest.raises(UserError, match="layer 'spare' of the student gives no tensor"):
        Feature(pairs=[["spare", "head"]]).attach(Dense(), tiny(), batch)
    with pytest.raises(UserError, match="pair layers of one kind"):
        Feature(pairs=[["deep", "head"]]).attach(Dense(), tiny(), batch)
    with pytest.raises(UserError, match=r"layer 'deep' of the student gives \(2, 16\) for 2 images"):
        Attention(pairs=[["deep", "head"]]).attach(Dense(), tiny(), batch)


def test_probe_keeps_batch_norm_and_random_state(tiny, batch):
    net = tiny().train()
    before = net.body[1].running_mean.clone()
    state = torch.get_rng_state()
    _, seen = probe(net, batch.x, batch.cond, ["body.1"])
    assert seen["body.1"].shape == (2, 6, 8, 8)
    assert torch.equal(net.body[1].running_mean, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_teachers_own_view_is_probed(tiny, batch):
    class Colour(tiny):
        def __init__(self):
            super().__init__(channels=3)

    both = Batch(x=batch.x, teacher_x=batch.x.repeat(1, 3, 1, 1), cond=batch.cond)
    method = Feature()
    method.attach(tiny(), Colour(), both)
    assert len(method.pairs) == 3
