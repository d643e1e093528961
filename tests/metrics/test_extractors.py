"""Extractors of features: names, shapes, values, and what is said where one is not at hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdgen.metrics import extractor, extractors
from kdgen.types import UserError


class Stub(nn.Module):
    """Means over quarters of the image, and how often it was called and in which mode."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.seen = []

    def features(self, x):
        assert x.shape[1] == 3
        self.seen.append((len(x), self.training, torch.is_inference_mode_enabled()))
        return (nn.functional.adaptive_avg_pool2d(x, 2) * self.weight.view(1, 3, 1, 1)).flatten(1)


@pytest.fixture
def stub(monkeypatch):
    net = Stub()
    monkeypatch.setattr(extractors, "load", lambda name: SimpleNamespace(net=net))
    extractor.cache_clear()
    yield net
    extractor.cache_clear()


def test_features_come_in_batches_and_in_order(stub):
    images = torch.rand(25, 3, 8, 8) * 2 - 1
    features = extractor("features32")(images, batch_size=10)
    assert features.shape == (25, 12)
    assert features.dtype == torch.float64
    assert torch.allclose(features[:, 0], images[:, 0, :4, :4].mean((1, 2)).double(), atol=1e-6)
    assert stub.seen == [(10, False, True), (10, False, True), (5, False, True)]
    assert stub.training
    assert extractor("features32") is extractor("features32")
    assert extractor("features32").name == "features32"


def test_grey_images_are_repeated(stub):
    grey = torch.rand(4, 1, 8, 8)
    make = extractor("features32")
    assert torch.equal(make(grey), make(grey.repeat(1, 3, 1, 1)))


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="no features are called 'features64'; the nearest: features32"):
        extractor("features64")


def test_an_inception_that_is_not_at_hand_says_what_to_do(monkeypatch, tmp_path):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(extractors.importlib, "import_module", missing)
    with pytest.raises(UserError, match="pip install torch-fidelity"):
        extractor("inception")
    monkeypatch.setattr(extractors.importlib, "import_module", lambda name: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"put https://\S+6726825d.pth at \S+checkpoints"):
        extractor("inception")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / extractors.INCEPTION).write_bytes(b"half a file")
    with pytest.raises(UserError, match="is damaged"):
        extractor("inception")


def test_inception_features_are_those_of_torch_fidelity(monkeypatch, tmp_path):
    package = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is not installed"
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(package, "load_state_dict_from_url", lambda *a, **k: {})
    with monkeypatch.context() as patch:
        patch.setattr(package.FeatureExtractorInceptionV3, "load_state_dict", lambda *a, **k: None)
        theirs = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False)
    torch.save(theirs.state_dict(), tmp_path / "checkpoints" / extractors.INCEPTION)
    extractor.cache_clear()
    octets = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = theirs(octets)[0]
    ours = extractor("inception")(octets / 127.5 - 1)
    extractor.cache_clear()
    assert ours.shape == (2, 2048)
    assert torch.allclose(ours.float(), expected, rtol=1e-4, atol=1e-6)
