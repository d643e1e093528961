"""LoRA: small matrices beside the layers of a pipeline's model, which learn while its own weights stay as they are."""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import nn

from kdgen import registry
from kdgen.models.adapters.latent_form import told_in_lines
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.latent_schedulers import check_scheduler
from kdgen.models.adapters.lora_base import lent, no_pipeline, opened
from kdgen.models.adapters.pretrained import construct, one_line, public, quiet, write
from kdgen.models.adapters.weight_files import check_content
from kdgen.models.nets.fold import shared
from kdgen.registry import Spec, nearest, register
from kdgen.types import UserError, text
from kdgen.types.arguments import Count, Positive
from kdgen.utils.cache import weights_fingerprint
from kdgen.utils.convert import write_text
from kdgen.utils.references import ModelReference
from kdgen.utils.validation import check_numbers

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The projections of attention, the last four those of the words in a model that looks at both; diffusers' names."""

MATRIX = ".lora_"
"""What the names of matrices have that those of a model's own weights lack."""

USAGE = """from diffusers import {imports}
{also}
pipeline = {pipeline}.from_pretrained({model})
{load}
pipeline({told}{more}).images[0].save("image.png")"""


class Lora(LatentModel):
    """A net around the model of another, whose weights both hold as one, with matrices beside its layers that learn.

    Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685, eq. 3): a layer ``W x`` becomes ``W x + alpha / rank B A x``,
    with ``B`` of zeros at first, so that it begins as the model it is for. The other net is that model still: it has no
    matrices. These alone are what a state or a file of this one holds.

    Attributes:
        family: the class of the other net.
        use: how it is built, the fingerprint of the model's weights among it.
    """

    family: ClassVar[type[LatentModel]]
    use: Spec

    def __init__(self, model: Any, scheduler: Any, pipeline: str, **more: Any) -> None:
        super().__init__(model, scheduler, pipeline, **more)
        untyped: Any = self
        untyped.register_state_dict_post_hook(_matrices_alone)
        untyped.register_load_state_dict_pre_hook(_with_the_rest)

    @property
    def file(self) -> str:
        """What its file is called, by diffusers or, for a pipeline that opens none of its, by peft."""
        return "pytorch_lora_weights.safetensors" if self.opens_lora else "adapter_model.safetensors"

    def stored(self) -> dict[str, nn.Parameter]:
        """The matrices by their names in that file."""
        down, up = (".lora.down.", ".lora.up.") if self.part == "unet" else (".lora_A.", ".lora_B.")
        prefix = f"{self.part}." if self.opens_lora else "base_model.model."
        named = {name: p for name, p in self.model.named_parameters() if MATRIX in name}
        return {prefix + name.replace(".lora_A.default.", down).replace(".lora_B.default.", up): p
                for name, p in named.items()}  # fmt: skip

    def save_files(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the matrices as ``pipeline.load_lora_weights`` or peft opens them, and the scheduler; no model."""
        args = self.use.args
        facts = {"r": args["rank"], "lora_alpha": args["alpha"], "target_modules": args["targets"], "bias": "none"}
        weights = {key: p.detach().cpu().to(dtype).contiguous() for key, p in self.stored().items()}
        told = {"lora_adapter_metadata": json.dumps({f"{self.part}.{key}": fact for key, fact in facts.items()})}
        if not self.opens_lora:
            told = {"format": "pt"}
            write_text(folder / "adapter_config.json", json.dumps({"peft_type": "LORA", **facts}, indent=2) + "\n")
        partial = folder / f"{self.file}.partial"
        partial.write_bytes(serialize(weights, told))
        os.replace(partial, folder / self.file)
        write(self.scheduler, folder / "scheduler")

    def load_files(self, folder: Path) -> None:
        """Read the matrices of a saved LoRA. Raises UserError if they do not fit."""
        file = folder / self.file
        check_content(file)
        weights, own = load_file(file), self.stored()
        check_numbers(weights, own, str(folder))
        shapes, wanted = ({key: tuple(each.shape) for key, each in held.items()} for held in (weights, own))
        if unlike := sorted(shapes.items() ^ wanted.items()):
            raise UserError(text("lora_weights", "{file} does not hold the matrices that the config.json beside it "
                                 "says, {key} among them: fetch it again", file=file, key=unlike[0][0]))  # fmt: skip
        with torch.no_grad():
            for key, parameter in own.items():
                parameter.copy_(weights[key])

    def adopt(self, teacher: nn.Module) -> None:
        """Hold the weights of a teacher that was lent, and is the model it is for, as they lie now."""
        if isinstance(teacher, LatentModel) and lent(self.use.args["model"]) is teacher:
            weights = dict(teacher.model.named_parameters())
            for name, parameter in self.model.named_parameters():
                if MATRIX not in name:
                    parameter.data = weights[name.replace(".base_layer.", ".")].data

    def inherit(self, teacher: nn.Module) -> None:
        """Start from the model it is for, which is how it begins anyway, or from another LoRA of that.

        Raises:
            UserError: for anything else.
        """
        if isinstance(teacher, Lora) and teacher.use == self.use:
            self.load_state_dict(teacher.state_dict())
        elif not isinstance(teacher, LatentModel) or isinstance(teacher, Lora) or not self._is_for(teacher):
            raise UserError(text("lora_start", "a LoRA begins as the model it is for: leave init out, or name that "
                                 "model, or another LoRA for it of the same arguments"))  # fmt: skip

    def _is_for(self, net: LatentModel) -> bool:
        return type(net) is self.family and weights_fingerprint(net.model) == self.use.args["fingerprint"]

    def merged(self) -> LatentModel:
        """A whole net of the family that gives the same: ``W + alpha / rank B A`` in the place of ``W``.

        Its ``save_files`` writes the folder of a pipeline.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        model = copy.deepcopy(self.model)
        for path, layer in [*model.named_modules()]:
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                model.set_submodule(path, layer.get_base_layer())
        del model.peft_config
        net = self.family(model, self.scheduler, self.pipeline, **self.further())
        net.folder = self.folder
        return net.train(self.training)

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that draw an image by plain diffusers."""
        args: Mapping[str, Any] = use.args
        pipeline, families = args.get("pipeline") or "DiffusionPipeline", registry.handles("adapter")
        family: Any = registry.get("adapter", families[pipeline]) if pipeline in families else LatentModel
        name, _, revision = str(args["model"]).removeprefix("hub:").partition("@")
        load, also = f'pipeline.load_lora_weights("{repo}")', ""
        if not family.opens_lora:
            inner, also = f"pipeline.{family.part}", "from peft import PeftModel\n"
            load = f'{inner} = PeftModel.from_pretrained({inner}, "{repo}").merge_and_unload()'
        if scheduler := (args.get("scheduler") or {}).get("_class_name"):
            load += f'\npipeline.scheduler = {scheduler}.from_pretrained("{repo}", subfolder="scheduler")'
        return USAGE.format(
            imports=", ".join(sorted(filter(None, [pipeline, scheduler]))), also=also, pipeline=pipeline,
            model=f'"{name}", revision="{revision}"' if revision else f'"{name}"', load=load, told=family.usual_told,
            more=told_in_lines(task),
        )  # fmt: skip

    def extra_repr(self) -> str:
        """What its weights do not say: the model it is for, and how much is added."""
        return f"{super().extra_repr()}, use={self.use}"


@cache
def _beside(family: Any) -> type[Lora]:
    """The class of a family's nets with matrices beside their layers."""
    return cast(type[Lora], type(f"Lora{family.__name__}", (Lora, family), {"family": family}))


def _found(model: nn.Module, targets: Sequence[str] | None) -> list[str]:
    """The layers that are meant, by the ends of their paths. Raises UserError for an end that no layer has."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    having = {end for name in layers for end in _ends(name)}
    if targets is None:
        return [target for target in ATTENTION if target in having]
    for target in targets:
        if target not in having:
            raise UserError(text("lora_target", "a {type} has no layer {target!r} that a LoRA can stand beside"
                                 "{nearest}", type=type(model).__name__, target=target,
                                 nearest=nearest(target, having)))  # fmt: skip
    return [*targets]


def _ends(path: str) -> list[str]:
    """A dotted path, and what is left of it without its first parts."""
    parts = path.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def _changed(of: LatentModel, changes: Mapping[str, Any]) -> Any:
    """A scheduler as a net's own but for some changes. Raises UserError for one that is not understood."""
    config = {"_class_name": type(of.scheduler).__name__, **public(of.scheduler.config), **changes}
    check_scheduler(config, predicts_flow=of.predicts_flow)
    with quiet():  # of what the other class does not know
        return construct(config["_class_name"], public(config))


def _matrices_alone(net: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(prefix) and MATRIX not in key]:
        del state[key]


def _with_the_rest(net: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    assert isinstance(net, Lora)
    for key, value in net.model.state_dict().items():
        if MATRIX not in key:
            state.setdefault(f"{prefix}{net.part}.{key}", value)


@register("net")
def lora(
    model: ModelReference,
    rank: Count = 16,
    alpha: Positive | None = None,
    targets: Sequence[str] | None = None,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: str | None = None,
    fingerprint: str | None = None,
) -> Lora:
    """A pipeline's model, whose weights stay, with small matrices beside its layers, which learn: peft's LoRA.

    Args:
        model: the pipeline it is for: its teacher, where it is to draw in fewer steps or calls.
        rank: of the matrices' product.
        alpha: what the product is multiplied by, over ``rank``; by default ``rank``, so that it counts as it is.
        targets: the layers, by the ends of their paths in the model; by default the projections of its attention.
        dropout: share of a layer's inputs that its matrices do not see in training.
        scheduler: what to change of the pipeline's scheduler, the ``_class_name`` too: that of one for few steps, say.
        pipeline: class of the pipeline, which it says itself.
        fingerprint: of the model's weights where this LoRA was trained; any other model is refused.

    Raises:
        UserError: without peft, for a model that is no pipeline of latents, or another than this was trained for, and
            arguments that do not fit.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError(text("needs_lora", "a LoRA is made by peft, which is not installed: pip install 'kdgen[lora]'"
                             )) from None  # fmt: skip
    of, found = opened(model)
    if isinstance(of, Lora):
        raise no_pipeline(model)
    if fingerprint not in (None, found) or pipeline not in (None, of.pipeline):
        raise UserError(text("lora_other", "this LoRA is for another net than {model}, whose weights have the "
                             "fingerprint {found} and not {wanted}: open it with the one it was trained for",
                             model=str(model), found=found, wanted=str(fingerprint)))  # fmt: skip
    inner: Any = shared(of.model)
    ends = _found(inner, targets)
    config = LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=ends, lora_dropout=dropout,
                        init_lora_weights="gaussian")  # fmt: skip
    try:
        inject_adapter_in_model(config, inner)
    except ValueError as error:  # a layer that peft has no matrices for
        raise UserError(text("lora_refused", "no LoRA can be made so: {error}", error=one_line(error))) from None
    family: Any = type(of)
    net = _beside(family)(inner, _changed(of, scheduler or {}), of.pipeline, **of.further())
    net.folder = of.folder
    args = {"model": model, "rank": rank, "alpha": alpha or rank, "targets": ends, "dropout": dropout,
            "scheduler": scheduler, "pipeline": of.pipeline, "fingerprint": found}  # fmt: skip
    net.use = Spec.model_validate({"name": "lora", "args": args})
    return net


__all__ = ["Lora"]
