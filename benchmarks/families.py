"""Every family of pipelines that kdgen distils, tiny and with random weights: plain diffusers beside kdgen.

    python benchmarks/families.py
    python benchmarks/families.py DiTPipeline SanaPipeline

A cell is the largest difference of pictures in [0, 1] between plain diffusers and kdgen, of the same noise: of the
teacher in 4 guided steps; of students that a run of 3 steps by `output` has trained, saved and opened again, the same
net, a smaller one that `propose` found and a LoRA; and of students of 2 steps by every method for few steps. Nets,
prompts and plain pipelines are those of the tests.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "tasks")]

import torch  # noqa: E402
from latent_pipelines import FAMILIES, drawn, reopened, through, whole  # noqa: E402
from test_latent_few_steps import LCM, METHODS, PROMPTS, TRAILING, recipe, same_net  # noqa: E402

from kdgen import UserError, load, registry  # noqa: E402
from kdgen.models.adapters.pipeline_images import image_seeds  # noqa: E402
from kdgen.recipe import Recipe, Stage  # noqa: E402
from kdgen.recipe.parts import Guidance  # noqa: E402
from kdgen.registry import Spec  # noqa: E402
from kdgen.report.propose import propose  # noqa: E402
from kdgen.training import run  # noqa: E402

RESOLUTION = {"FluxPipeline": 16}
"""At how many pixels a side those draw whose folders say no size, and which draw 128x128 latents by themselves."""

SEEN = 0.2
"""The least share of a picture's values that must lie between black and white."""

FEW = {"num_latents": 8, "num_steps": 2, "num_images": 4, "picture": 8}


def teacher_apart(pipeline: str) -> float:
    """How far a pipeline's pictures are from those where its model answers through the adapter."""
    pipe = whole(pipeline, words=False)
    family: Any = registry.get("adapter", FAMILIES[pipeline])
    size = {"size": 8} if pipeline in RESOLUTION else {}
    net = family(pipe.components[family.part], pipe.scheduler, pipeline, **size).eval()
    plain = drawn(pipe)
    with through(pipeline, net):
        return float((drawn(pipe) - plain).abs().max())


def told_of(teacher: Path) -> dict[str, Any]:
    """What its tasks say of prompts and of the size of pictures, where there is something to say."""
    net = load(teacher).net
    resolution = {"resolution": RESOLUTION[net.pipeline]} if net.pipeline in RESOLUTION else {}
    return {**({"prompts": PROMPTS} if worded(teacher) else {}), **resolution}


def task_of(teacher: Path) -> Spec:
    """Its task, in as little as there is to measure."""
    return Spec(name="latent_diffusion", args={"model": str(teacher), **FEW, **told_of(teacher)})


def taught(teacher: Path, make: Callable[[], Spec], folder: Path) -> Path:
    """A run of three steps by the teacher's output."""
    task, student = task_of(teacher), make()
    stage = Stage(methods=(Guidance(name="output"),), lr=1e-3)
    made = Recipe(name="student", task=task, teacher=str(teacher), student=student, stages=(stage,), steps=3,
                  batch_size=4, cache={"inputs": 0}, controls=False,
                  init="random" if student.name == "lora" else "teacher")  # fmt: skip
    list(run.distill(made, folder))
    return folder


def few(teacher: Path, method: str, folder: Path) -> Path:
    """The same net, taught to draw in two steps by a method."""
    flow = load(teacher).net.predicts_flow
    consistent = method == "consistency" and not flow and worded(teacher)  # a DiTPipeline seeds no noise between steps
    student = same_net(teacher, None if flow else LCM if consistent else TRAILING)
    told = {**told_of(teacher), "guidance": 3.0, "sampler": "consistency" if consistent else "euler"}
    list(run.distill(recipe(teacher, student, Guidance(name=method, args=METHODS[method]), **told), folder))
    return folder


def worded(teacher: Path) -> bool:
    """Whether it draws by words."""
    return "label" not in load(teacher).net.conditions


def apart(pipeline: str, teacher: Path, folder: Path) -> float:
    """How far plain diffusers' picture of a student is from kdgen's."""
    model = load(folder)
    asked = {"prompt": "red heart"} if worded(teacher) else {"label": [1]}
    if model.use is not None and model.use.name == "lora":
        pipe = reopened(pipeline, teacher)
        if hasattr(pipe, "load_lora_weights"):
            pipe.load_lora_weights(folder / "student")
        else:
            from peft import PeftModel

            part = model.net.part
            setattr(pipe, part, PeftModel.from_pretrained(getattr(pipe, part), folder / "student"))
    else:
        pipe = reopened(pipeline, folder / "student")
    generators = [torch.Generator().manual_seed(seed) for seed in image_seeds(3, 1)]
    told = {} if "label" in asked else model.net.called_with(pipe, 1.0)
    scale = {"guidance_scale": 1.0} if "label" in asked else {}
    first = asked["label"] if "label" in asked else asked["prompt"]
    theirs = pipe(first, **told, **scale, generator=generators, num_inference_steps=2, output_type="np").images
    assert ((theirs > 0) & (theirs < 1)).mean() > SEEN, "black and white alone would always agree"
    ours = model.draw(1, seed=3, num_steps=2, guidance=1.0, **asked)
    return float((ours - (torch.from_numpy(theirs).movedim(-1, 1) * 2 - 1)).abs().max() / 2)


def cells(pipeline: str, scratch: Path) -> Iterator[str]:
    """The row of a family."""
    yield f"{teacher_apart(pipeline):.1e}"
    teacher = scratch / "teacher"
    whole(pipeline).save_pretrained(teacher)

    def smaller() -> Spec:
        return propose(load(teacher), registry.build("task", task_of(teacher)), fraction=0.7).use

    students: dict[str, Callable[[], Spec]] = {
        "same": lambda: same_net(teacher), "smaller": smaller,
        "lora": lambda: Spec(name="lora", args={"model": str(teacher), "rank": 2}),
    }  # fmt: skip
    for name, student in students.items():
        yield tried(pipeline, teacher, partial(taught, teacher, student, scratch / name))
    methods = {name: tried(pipeline, teacher, partial(few, teacher, name, scratch / f"few-{name}")) for name in METHODS}
    yield "; ".join(f"{name} {cell}" for name, cell in methods.items())


def tried(pipeline: str, teacher: Path, train: Callable[[], Path]) -> str:
    """A cell: how far the student of a run is apart, or the line that says why there is none."""
    try:
        return f"{apart(pipeline, teacher, train()):.1e}"
    except UserError as error:
        return f"refused: {error.text}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="*", default=list(FAMILIES), help=", ".join(FAMILIES))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        "| pipeline | teacher | same net | smaller net | LoRA | few steps |\n|---|---:|---:|---:|---:|---|", flush=True
    )
    for pipeline in args.pipelines:
        with tempfile.TemporaryDirectory(prefix="kdgen-families-") as scratch:
            print(f"| {pipeline} | {' | '.join(cells(pipeline, Path(scratch)))} |", flush=True)


if __name__ == "__main__":
    main()
