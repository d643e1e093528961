"""Nets that are a row of blocks: which are worth reading, what they give, where those of a smaller net come from."""

from collections.abc import Mapping
from math import isqrt
from typing import Any, ClassVar

from torch import Tensor, nn

from kdgen.models.adapters.adapter import Adapter
from kdgen.models.adapters.blocks import Origins


class BlockNet(Adapter):
    """A net around a model of diffusers that is a row of blocks.

    Attributes:
        blocks: names of its model's blocks and stacks of blocks, in order of use.
    """

    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)

    def feature_layers(self) -> list[str]:
        """The blocks, in order of use."""
        children, layers = dict(self.get_submodule(self.part).named_children()), list[str]()
        for name in self.blocks:
            child, path = children.get(name), f"{self.part}.{name}"
            if isinstance(child, nn.ModuleList):
                layers += [f"{path}.{i}" for i in range(len(child))]
            elif child is not None:
                layers.append(path)
        return layers

    def feature_of(self, output: Any) -> Tensor | None:
        """What a block gives of the image: the last tensor, squares ``(B, h * w, C)`` as a map ``(B, C, h, w)``."""
        given = output if isinstance(output, tuple | list) else (output,)
        feature = next((each for each in reversed(given) if isinstance(each, Tensor)), None)
        if feature is None or feature.dim() != 3:
            return feature
        side = isqrt(feature.shape[1])
        return feature.mT.reshape(len(feature), -1, side, side)

    def origins(self, teacher: nn.Module) -> Mapping[str, str]:
        """The blocks of a larger net of its class that its own come from, see ``Origins``; none of another teacher."""
        larger = next((each for each in (teacher, *teacher.children()) if isinstance(each, type(self))), None)
        if larger is None:
            return {}
        origin, layers = Origins(self.state_dict(), larger.state_dict()), set(larger.feature_layers())
        return {layer: found for layer in self.feature_layers() if (found := origin(layer)) in layers}
