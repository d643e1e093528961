"""The models that LoRAs are for: opened, or lent by whoever has them open, so that their weights are held once."""

import os
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from kdgen.models.adapters.latent_model import LatentModel
from kdgen.types import Net, UserError, text
from kdgen.utils.cache import weights_fingerprint

_lent: WeakValueDictionary[str, LatentModel] = WeakValueDictionary()
_fingerprints: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def lend(reference: Any, net: Net) -> None:
    """Have LoRAs for a model that are built from now on share the weights of a net at hand, for as long as it lives.

    Args:
        reference: what the model is called, as LoRAs name it.
        net: that model, opened, which nobody trains; one that no LoRA is for is passed over.
    """
    if isinstance(net, LatentModel):
        _lent[_key(reference)] = net


def lent(reference: Any) -> LatentModel | None:
    """The net that is lent under a name, if one is."""
    return _lent.get(_key(reference))


def opened(reference: str | Mapping[str, Any]) -> tuple[LatentModel, str]:
    """The net of a pipeline, the lent one where there is one, and the fingerprint of its model's weights.

    Raises:
        UserError: for what is no pipeline of latents, or cannot be opened.
    """
    from kdgen.models.loading import load_net

    net: Net | None = lent(reference)
    try:
        net = load_net(reference).net if net is None else net
    except UserError as error:
        raise type(error)(text("lora_model", "a LoRA is opened with the model it is for, and {model} is not to be had: "
                               "{error}", model=str(reference), error=error.text)) from None  # fmt: skip
    if not isinstance(net, LatentModel):
        raise no_pipeline(reference)
    if net not in _fingerprints:
        _fingerprints[net] = weights_fingerprint(net.model)
    return net, _fingerprints[net]


def no_pipeline(reference: Any) -> UserError:
    """What to say of a model that no LoRA is for."""
    return UserError(text("lora_of", "a LoRA is for a pipeline of latents, as Stable Diffusion's, and {model} is none "
                          "by itself: name the folder or the id of one", model=str(reference)))  # fmt: skip


def _key(reference: Any) -> str:
    named = str(reference)
    return os.path.realpath(named) if os.path.exists(named) else named


__all__ = ["lend", "lent", "no_pipeline", "opened"]
