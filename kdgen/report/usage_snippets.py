"""How a published student is used, as code that its card shows: with kdgen, and without."""

import inspect
from collections.abc import Mapping
from typing import Any

from kdgen import registry
from kdgen.models.adapters.adapter import Adapter
from kdgen.models.task_arguments import task_class
from kdgen.registry import Spec
from kdgen.types import Net, UserError
from kdgen.utils.conditions import conditions_of

RESTORE = 'student(Image.open("noisy.png"), sigma={sigma:g}).save("clean.png")'
DRAW = 'student.generate(num_images=1, seed=0)[0].save("image.png")'
CALL = "out = student.net(x)  # x (B, C, H, W) in [-1, 1]"

TOLD = {
    "mask": ("--mask missing.png", "`missing.png` is white where `in.png` is missing"),
    "stops": ("--stops 2", "`--stops` is how many times the light was halved"),
}
"""What a net may be told beside a picture: as an option of ``kdgen restore``, and what that means."""

HEAD = """import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch.nn import functional as F

w = load_file(hf_hub_download("{repo}", "model.safetensors"))"""

CHAIN = """
layers = sorted({{int(key.split(".")[0]) for key in w}})

def chain(h):
    for i in layers[:-1]:
        h = F.relu(F.conv2d(h, w[f"{{i}}.weight"], w.get(f"{{i}}.bias"), padding=1))
    return F.conv2d(h, w[f"{{layers[-1]}}.weight"], w.get(f"{{layers[-1]}}.bias"), padding=1)
"""

PLAIN = {
    "half_res": """
def conv(h, name):
    return F.conv2d(h, w[f"{{name}}.weight"], w[f"{{name}}.bias"], padding=1)

def denoise(x{sigma}):  # x (B, {channels}, H, W) in [-1, 1]; H and W are even
    h = F.pixel_unshuffle(x, 2){level}
    h = F.relu(conv(h, "head"))
    for i in range({blocks}):
        h = h + conv(F.relu(conv(h, f"body.{{i}}.0")), f"body.{{i}}.2")
    return x - F.pixel_shuffle(conv(h, "tail"), 2)""",
    "dncnn": CHAIN + """
def denoise(x):  # x (B, {channels}, H, W) in [-1, 1]
    return {less}chain(x)""",
    "ffdnet": CHAIN + """
def denoise(x{sigma}):  # x (B, {channels}, H, W) in [-1, 1]; H and W are even
    h = F.pixel_unshuffle(x, 2){level}
    return {less}F.pixel_shuffle(chain(h), 2)""",
    "mlp_generator": """
*hidden, last = sorted({{int(key.split(".")[0]) for key in w}})

def draw(z{label}):  # z = torch.randn(B, {latent}); returns (B, {channels}, {size}, {size}) in [-1, 1]{classes}
    for i in hidden:
        z = F.leaky_relu(F.linear(z, w[f"{{i}}.weight"], w[f"{{i}}.bias"]), {slope})
    h = F.linear(z, w[f"{{last}}.weight"], w[f"{{last}}.bias"])
    return torch.tanh(h{half}).view(-1, {channels}, {size}, {size})""",
    "conv_generator": """
def norm(h, name):
    mean, var, scale, shift = (w[f"{{name}}.{{key}}"] for key in ("running_mean", "running_var", "weight", "bias"))
    return F.relu(F.batch_norm(h, mean, var, scale, shift))

def draw(z{label}):  # z = torch.randn(B, {latent}); returns (B, {channels}, {size}, {size}) in [-1, 1]{classes}
    h = norm((z @ w["stem.weight"].T).view(len(z), -1, 4, 4), "norm")
    for i in range({stages}):
        h = F.conv2d(F.interpolate(h, scale_factor=2), w[f"stages.{{i}}.conv.weight"], padding=1)
        h = norm(h, f"stages.{{i}}.norm")
    return torch.tanh(F.conv2d(h, w["tail.weight"], w["tail.bias"], padding=1))""",
}  # fmt: skip
"""Nets of kdgen's own in lines of plain torch, by name; the tests run them."""

CLASS = "\n    z = torch.cat([z, F.one_hot(label, {num_classes})], dim=1)"
LEVEL = "\n    h = torch.cat([torch.full_like(h[:, :1], 2 * sigma / 255), h], dim=1)"


def with_kdgen(repo: str, kind: str, task: Mapping[str, Any]) -> str:
    """Lines that load a student by kdgen and use it.

    Args:
        repo: its id on the Hub.
        kind: the name of its task.
        task: what else is known of that.
    """
    use, imports = CALL, "import kdgen\n"
    made_for = task_class({"name": kind})
    if made_for.takes_sigma:
        sigma = task.get("sigma", 25)
        use = RESTORE.format(sigma=sigma if isinstance(sigma, int | float) else 25)
        imports += "from PIL import Image\n"
    elif made_for.draws:
        use = DRAW
    return f'{imports}\nstudent = kdgen.load("{repo}")\n{use}'


def by_command(repo: str, kind: str, net: Spec, task: Mapping[str, Any]) -> str:
    """A line of the command line that restores pictures by a student, with what its net may be told, in Markdown.

    Args:
        repo: its id on the Hub.
        kind: the name of its task.
        net: its architecture.
        task: what else is known of that.

    Returns:
        nothing for a student that restores no pictures.
    """
    made_for = task_class({"name": kind})
    if not (made_for.takes_sigma or made_for.takes_strength or made_for.taught_alone):
        return ""
    try:
        built: Net = registry.build("net", net)
        read = conditions_of(built) or frozenset[str]()
    except UserError:
        read = frozenset()
    sigma = task.get("sigma", 25)
    told = [f"--sigma {sigma if isinstance(sigma, int | float) else 25:g}"] if made_for.takes_sigma else []
    told += [option for name, (option, _) in TOLD.items() if name in read]
    meant = "".join(f"; {meaning}" for name, (_, meaning) in TOLD.items() if name in read)
    line = " ".join(["kdgen restore", repo, "in.png out.png", *told])
    return f"From the command line, for a picture or a folder of pictures{meant}:\n\n```sh\n{line}\n```"


def needs_code(net: Spec) -> bool:
    """Whether a net is of somebody's own code, so that kdgen alone cannot build it."""
    try:
        return not inspect.unwrap(registry.get("net", net.name)).__module__.startswith("kdgen.")
    except UserError:
        return True


def adapter_of(net: Spec) -> type[Adapter] | None:
    """The class of a net around a model of diffusers; None for any other net."""
    try:
        named: Any = registry.get("adapter", net.name) if net.name in registry.names("adapter") else None
        made = named or registry.gives("net", net.name)
    except UserError:
        return None
    return made if made is not None and issubclass(made, Adapter) else None


def without_kdgen(repo: str, net: Spec, task: Mapping[str, Any]) -> tuple[str, str]:
    """In words, and in lines: how a student is used where kdgen is not installed.

    Args:
        repo: its id on the Hub.
        net: its architecture.
        task: what is known of its task.
    """
    if adapter := adapter_of(net):
        return "by plain diffusers", adapter.usage(repo, net, task)
    try:
        module = inspect.unwrap(registry.get("net", net.name)).__module__
    except UserError:
        return "the weights are plain tensors by name", HEAD.format(repo=repo)
    if net.name in PLAIN and module.startswith("kdgen."):
        args: dict[str, Any] = registry.spelled_out("net", net).args
        takes_sigma = net.name == "ffdnet" or args.get("sigma_map")
        facts = {**args, "repo": repo, "sigma": ", sigma" if takes_sigma else "", "level": LEVEL if takes_sigma else "",
                 "label": ", label" if args.get("num_classes") else "",
                 "classes": CLASS.format(num_classes=args["num_classes"]) if args.get("num_classes") else "",
                 "less": "x - " if args.get("predicts") == "residual" else "",
                 "half": " / 2" if args.get("output") == "sigmoid" else "",
                 "stages": (args.get("size", 4) // 4).bit_length() - 1}  # fmt: skip
        return "in plain torch", f"{HEAD}\n{PLAIN[net.name]}".format(**facts)
    kept = f" from `{module.replace('.', '/')}.py`" if module.startswith("kdgen.") else ""
    return (f"the weights are plain tensors by name, and the net is `{net}`{kept}, code of torch that may be copied",
            HEAD.format(repo=repo))  # fmt: skip
