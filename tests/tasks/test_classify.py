"""The classification task: batches, loss and accuracy."""

from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdgen.data import Idx
from kdgen.registry import Spec, build
from kdgen.tasks import Classify
from kdgen.types import UserError


@pytest.fixture
def icons(tmp_path):
    for i, level in enumerate((20, 90, 160, 230)):
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(tmp_path / f"{i}.png")
    return {"name": "folder", "args": {"path": str(tmp_path), "jitter": {"shift": 0.1}}}


class Level(nn.Module):
    """Tells four flat images by their brightness, or by a shifted one."""

    def __init__(self, offset=0.0):
        super().__init__()
        self.offset = offset

    def forward(self, x, **cond):
        levels = torch.tensor([20, 90, 160, 230]) / 127.5 - 1
        return -(x.mean((1, 2, 3))[:, None] + self.offset - levels).abs()


def take(task, count, start=0, seed=0):
    return list(islice(task.batches(batch_size=6, seed=seed, start=start), count))


def test_batches_depend_on_seed_and_number_alone(icons):
    task = build("task", Spec(name="classify", args={"images": icons, "patch": 8}))
    assert (task.channels, task.equivariant, task.primary_metric) == (3, False, "accuracy")
    assert task.describe() == {"name": "classify", "num_classes": 4, "size": 8, "channels": 3}
    three = take(task, 3)
    assert three[0].x.shape == (6, 3, 8, 8)
    assert three[0].y.dtype == torch.int64
    again = take(Classify(icons, patch=8), 2, start=1)
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(three[1:], again, strict=True))
    assert not torch.equal(three[0].x, take(task, 1, seed=1)[0].x)
    assert task.resample_noise(three[0], seed=3) is three[0]
    assert task.fingerprint() != Classify(icons, patch=8, augment=False).fingerprint()


def test_the_loss_is_cross_entropy_per_image(icons):
    (batch,) = take(Classify(icons, patch=8), 1)
    logits = torch.randn(6, 4)
    nats = -logits.log_softmax(1)
    right = nats[torch.arange(6), batch.y]
    assert torch.allclose(Classify(icons, patch=8).loss(logits, batch), right)
    smooth = Classify(icons, patch=8, smoothing=0.2).loss(logits, batch)
    assert torch.allclose(smooth, 0.8 * right + 0.2 * nats.mean(1))


def test_accuracy_and_agreement(icons):
    task = Classify(icons, patch=8, num_images=200)
    net, dark = Level(), Level(offset=-1.0)
    sure = task.evaluate(net)
    assert sure.keys() == {"accuracy", "balanced_accuracy", "auroc", "ece"}
    assert sure["accuracy"] == sure["balanced_accuracy"] == sure["auroc"] == 1
    figures = task.evaluate(dark, reference=net)
    assert figures["accuracy"] == figures["agreement"] < 0.5
    assert "agreement" not in task.evaluate(net, reference=net, limit=10)
    assert "200 draws of the training images of 4 classes" in task.describe_evaluation()


def coloured(folder, names):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[..., number % 3] = 200 + i
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return {"name": "image_folder", "args": {"path": str(folder)}}


class Brightest(nn.Module):
    """Tells images by their brightest channel, and counts them."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x, **cond):
        self.seen += len(x)
        return x.mean((2, 3))


@pytest.mark.parametrize("how", ["mixup", "cutmix", "both"])
def test_mixed_images_have_mixed_classes_and_a_loss_of_both(how, icons):
    task = build("task", Spec(name="classify", args={"images": icons, "patch": 8, "mix": how}))
    (batch,), (plain,) = take(task, 1), take(Classify(icons, patch=8), 1)
    assert batch.y.shape == (6, 4)
    torch.testing.assert_close(batch.y.sum(1), torch.ones(6))
    assert not torch.equal(batch.x, plain.x)
    assert task.fingerprint() != Classify(icons, patch=8).fingerprint()
    logits = torch.randn(6, 4)
    torch.testing.assert_close(task.loss(logits, batch), -(batch.y * logits.log_softmax(1)).sum(1))


def test_balanced_classes_count_alike_however_few_images_they_have(tmp_path):
    images = np.zeros((8, 4, 4), np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.array([0, 0, 0, 0, 0, 0, 2, 2]))
    source = {"name": "npz", "args": {"path": str(tmp_path / "few.npz")}}
    task = Classify(source, channels=1, patch=4, num_classes=4, balance=True)
    (batch,) = islice(task.batches(batch_size=8, seed=0), 1)
    assert sorted(batch.y.tolist()) == [0, 0, 0, 0, 0, 0, 2, 2]
    loss = task.loss(torch.zeros(8, 4), batch)
    assert loss.mean() == pytest.approx(np.log(4))
    assert loss[batch.y == 0].sum() == pytest.approx(loss[batch.y == 2].sum())
    side_by_side = {"name": "mixture", "args": {"sources": [source, source], "weights": [3, 1]}}
    weights = Classify(side_by_side, channels=1, patch=4, balance=True)._weight
    torch.testing.assert_close(weights, torch.tensor([1 / 2.25, 0, 1 / 0.75, 1 / 0.75, 0, 1 / 0.25]))


def test_each_labelled_image_is_evaluated_once(tmp_path):
    task = build("task", Spec(name="classify", args={"evaluate": coloured(tmp_path, "abc"), "patch": 8}))
    net = Brightest()
    assert task.evaluate(net)["accuracy"] == 1
    assert net.seen == 6
    assert "6 held-out images of 3 classes" in task.describe_evaluation()


def test_a_net_without_a_head_is_measured_by_its_neighbours(tmp_path):
    task = Classify(evaluate=coloured(tmp_path, "abc"), patch=8, num_classes=0)
    assert task.evaluate(Brightest()) == {"neighbours": 1.0}
    assert (
        task.evaluate(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False)))["neighbours"]
        >= 0
    )


def test_an_answer_that_is_not_finite_puts_an_image_in_no_class(tmp_path):
    class Sometimes(Brightest):
        def forward(self, x, **cond):
            out = super().forward(x)
            return torch.where(out.argmax(1, keepdim=True) == 0, torch.nan, out)

    task = Classify(evaluate=coloured(tmp_path, "abc"), patch=8)
    assert task.evaluate(Sometimes())["accuracy"] == pytest.approx(4 / 6)


def test_folders_of_other_classes_than_those_trained_on_are_refused(tmp_path):
    trained, other = coloured(tmp_path / "a", ["cat", "dog"]), coloured(tmp_path / "b", ["dog", "eel"])
    with pytest.raises(UserError, match="train on are cat, dog and those to evaluate on dog, eel"):
        Classify(trained, evaluate=other)
    fewer = coloured(tmp_path / "c", ["dog"])
    with pytest.raises(UserError, match="the nets have 2 classes and those to evaluate on 1"):
        Classify(evaluate=fewer, num_classes=2)
    fewer["args"]["classes"] = ["cat", "dog"]
    assert Classify(trained, evaluate=fewer).num_classes == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"channels": 0}, "channels is"),
        ({"patch": 0}, "patch is"),
        ({"smoothing": 1}, "smoothing is"),
        ({"mix": "blend"}, "mix is one of mixup, cutmix, both"),
        ({"augment": {"flop": 1}}, "flip"),
        ({"images": {"name": "photographs"}}, "knows no classes"),
        ({"images": {"name": "mixture", "args": {"sources": [{"name": "photographs"}]}}}, "knows no classes"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(args, words, icons):
    with pytest.raises(UserError, match=words) as error:
        Classify(**{"images": icons, **args})
    assert "\n" not in str(error.value)


def test_classes_to_evaluate_on_must_be_the_same(icons, shared_data):
    folder = shared_data / "fashion-mnist"
    held_out = Idx(str(folder / "t10k-images-idx3-ubyte.gz"), str(folder / "t10k-labels-idx1-ubyte.gz"))
    with pytest.raises(UserError, match="4 classes and those to evaluate on 10"):
        Classify(icons, evaluate=held_out)


class PublishedMLP(nn.Module):
    """784-512-256-256-128-10 with ReLU, inputs normalised by mean 0.2861 and deviation 0.3530."""

    def __init__(self, weights):
        super().__init__()
        widths = (784, 512, 256, 256, 128, 10)
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*layers[:-1])
        self.layers.load_state_dict({k.removeprefix("layers."): v for k, v in weights.items()})

    def forward(self, x, **cond):
        return self.layers((((x[:, :1] + 1) / 2 - 0.2861) / 0.3530).flatten(1))


def test_a_published_classifier_gets_its_published_accuracy(shared_data):
    """0.8946 on the 10,000 test images of Fashion-MNIST, each seen once."""
    folder = shared_data / "fashion-mnist"
    file = shared_data / "uvadlc" / "tutorial4_FashionMNIST_Adam.tar"
    weights = torch.load(file, weights_only=True, map_location="cpu")
    held_out = {
        "name": "idx",
        "args": {k: str(folder / f"t10k-{k}-idx{n}-ubyte.gz") for k, n in (("images", 3), ("labels", 1))},
    }
    task = Classify(held_out, channels=1, patch=28, evaluate=held_out)
    assert task.evaluate(PublishedMLP(weights))["accuracy"] == pytest.approx(0.8946, abs=1e-4)
    assert "10,000 held-out images of 10 classes" in task.describe_evaluation()


def test_a_small_net_learns_fashion(shared_data):
    folder = shared_data / "fashion-mnist"
    task = Classify(Idx(str(folder / "t10k-images-idx3-ubyte.gz"), str(folder / "t10k-labels-idx1-ubyte.gz")), 1, 16)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for batch in islice(task.batches(batch_size=64, seed=0), 150):
        loss = task.loss(net(batch.x), batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert task.evaluate(net, limit=500)["accuracy"] > 0.55
