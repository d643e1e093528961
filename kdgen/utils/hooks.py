"""Read what happens inside a net: forward hooks by dotted path, as a context manager; which weights come last."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdgen.registry import nearest
from kdgen.types import Text, UserError, text


@runtime_checkable
class Layered(Protocol):
    """A net that names the layers whose outputs are worth reading, where a list of all its modules would mislead."""

    def feature_layers(self) -> list[str]:
        """Their dotted paths, in order of use."""
        ...


@runtime_checkable
class Featured(Protocol):
    """A net that says what of its layers' outputs is the feature, where they give several things."""

    def feature_of(self, output: Any) -> Tensor | None:
        """The feature, batch first; None if there is none."""
        ...


class NoLayer(UserError):
    """A net has no layer of a name.

    Attributes:
        net: that net.
    """

    def __init__(self, message: str, net: nn.Module) -> None:
        super().__init__(message)
        self.net = net


def hookable_layers(net: nn.Module) -> list[str]:
    """Dotted paths of the modules of a net that can be hooked, in order of definition.

    A ``Layered`` net names its own; otherwise these are all of its named modules.
    """
    if isinstance(net, Layered) and callable(net.feature_layers):
        return list(net.feature_layers())
    return [name for name, _ in net.named_modules() if name]


def find(net: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises:
        NoLayer: if there is none, with the nearest paths.
    """
    try:
        return net.get_submodule(path)
    except AttributeError:
        paths = [name for name, _ in net.named_modules() if name]
        raise NoLayer(text("no_layer", "{net} has no layer {path!r}{nearest}", net=type(net).__name__, path=path,
                           nearest=nearest(path, paths)), net) from None  # fmt: skip


def no_tensor(owner: str, layer: str, role: Text) -> Text:
    """What a term of the loss says of a layer without an output to read.

    Args:
        owner: the term.
        layer: its dotted path.
        role: of the net, in words.
    """
    return text("layer_without_tensor", "{owner}: layer {layer!r} of the {role} gives no tensor of its own: name one "
                "of its parts", owner=owner, layer=layer, role=role)  # fmt: skip


@contextmanager
def capture_outputs(net: nn.Module, paths: Iterable[str]) -> Iterator[Mapping[str, Tensor]]:
    """Collect the outputs of modules during a forward pass.

    Args:
        net: any module.
        paths: dotted paths of its submodules. A module that gives a tuple is read at its first tensor, or as a
            ``Featured`` net says of which it is a part.

    Yields:
        a mapping, filled by the next forward pass of this thread, from path to output; the last call of a module wins.

    Raises:
        UserError: for a path the net does not have.
    """
    outputs: dict[str, Tensor] = {}
    thread = get_ident()

    def hook(path: str) -> Any:
        feature_of = _reader(net, path)

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            tensor = feature_of(output)
            if tensor is not None and get_ident() == thread:
                outputs[path] = tensor

        return keep

    modules = {path: find(net, path) for path in paths}
    handles = [module.register_forward_hook(hook(path)) for path, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _reader(net: nn.Module, path: str) -> Callable[[Any], Tensor | None]:
    """What finds the feature in the output at a path: a ``Featured`` net that is met on the way there."""
    for name in path.split("."):
        children = dict(net.named_children())
        hidden = () if name in children else children.values()  # whose parts a net around them has as its own
        if (found := next((each for each in (net, *hidden) if isinstance(each, Featured)), None)) is not None:
            return found.feature_of
        net = net.get_submodule(name)
    return _first


def _first(output: Any) -> Tensor | None:
    """The first tensor of what a module gives."""
    several = output if isinstance(output, tuple | list) else (output,)
    return next((part for part in several if isinstance(part, Tensor)), None)


def last_weights(net: nn.Module, x: Tensor, cond: Mapping[str, Tensor], paths: Iterable[str] = ()) -> list[Tensor]:
    """The weights of a net's last layer: what its output is computed from last, by autograd's own record.

    Args:
        net: any net; its buffers and the global random state stay as they are.
        x: inputs, as few as it takes.
        cond: conditions by keyword, each ``(B, ...)``.
        paths: dotted paths of modules, before each of whose outputs the last weights are wanted too.

    Returns:
        its parameters of two dimensions or more, each once; none where the output depends on no such one.
    """
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with torch.enable_grad(), torch.random.fork_rng(devices=[]), capture_outputs(net, paths) as outputs:
        out: Tensor = functional_call(net, buffers, (x,), dict(cond))
    return list({id(weight): weight for end in (out, *outputs.values()) for weight in _nearest(end)}.values())


def _nearest(end: Tensor) -> list[Tensor]:
    """The leaves of two dimensions or more that stand fewest operations before a tensor."""
    level, visited = [end.grad_fn], {None, end.grad_fn}
    while level:
        leaves = [getattr(node, "variable", None) for node in level]  # of AccumulateGrad alone
        weights = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim > 1]
        if weights:
            return weights
        before = dict.fromkeys(next_node for node in level if node for next_node, _ in node.next_functions)
        level = [node for node in before if node not in visited]
        visited.update(level)
    return []
