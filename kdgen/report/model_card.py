"""The model card of a student folder: what it is, how it was measured, how to use it, how to make it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from kdgen import registry
from kdgen.models.adapters.lora import Lora
from kdgen.models.config import Config
from kdgen.models.hub_cache import HubId
from kdgen.models.task_arguments import innermost, task_class, task_name
from kdgen.recipe import STARTS, Checkpoint, Recipe
from kdgen.registry import Spec
from kdgen.report.report import Report, heading
from kdgen.report.usage_snippets import adapter_of, by_command, needs_code, with_kdgen, without_kdgen

SOURCES = {
    "scenes": "procedural images that kdgen makes, which need no licence",
    "dead_leaves": "procedural images that kdgen makes, which need no licence",
    "photographs": "photographs that scikit-image carries, in the public domain or CC0",
    "samples": "images that a model drew, under that model's licence",
}
"""What is known of the licence of images by the name of their source."""


def card(
    report: Report | None,
    recipe: Recipe | None,
    *,
    config: Config | None = None,
    repo: str | None = None,
    license: str | None = None,
    teacher: Path | None = None,
    pictures: Mapping[str, str] | None = None,
    datasets: Sequence[str] = (),
) -> str:
    """The card of a student, in Markdown with the Hub's metadata. Only measured figures are on it.

    Args:
        report: how it was measured, if it was.
        recipe: how it was made, if that is known.
        config: what its folder says of it; by default what the recipe says.
        repo: its id on the Hub, if it has one.
        license: of the student in the Hub's words, e.g. ``apache-2.0``; by default ``unknown``.
        teacher: the folder that the teacher was loaded from, whose card tells the teacher's licence.
        pictures: names of pictures beside the card, and what each of these says that it is of.
        datasets: ids of those on the Hub that the student was trained on, where there are any.
    """
    assert config is not None or recipe is not None, "a card is of something"
    name = recipe.name if recipe else config.name if config else ""
    net = config.net if config else recipe.student if recipe else Spec(name="")
    task = dict(config.task) if config else {"name": recipe.task.name, **recipe.task.args} if recipe else {}
    kind = task_name({"name": recipe.task.name, **task} if recipe else task)
    data = _metadata(report, recipe, net, kind, name, license, datasets)
    parts = [f"---\n{data.to_yaml()}\n---", f"# {name}", _opening(report, recipe, net, kind)]
    row = report.find("student") if report else None
    if row is not None and row.fault:
        parts.append(f"**Do not use it: it {row.fault} when it was measured.**")
    if needs_code(net):
        parts.append(f"**Its net, `{net.name}`, is no part of kdgen: nobody can open it without that code.** Exported "
                     "by `kdgen export --format onnx` it opens without.")  # fmt: skip
    parts += [_picture(name, told) for name, told in (pictures or {}).items()]
    if report is not None:
        table = report.to_markdown().replace(f"# {report.task}", "", 1).strip()
        parts += ["## Figures", table]
    parts += ["## Use", _use(repo or f"ORG/{name}", kind, net, task)]
    if recipe is not None:
        parts += ["## Make it again", f"`kdgen distill recipe.json` with\n\n```json\n{recipe.to_json()}\n```"]
    if cost := _cost(report):
        parts += ["## Cost", cost]
    parts += ["## Limits", _limits(report, kind, task)]
    parts += ["## Licences", _licences(recipe, license, teacher)]
    return "\n\n".join(parts) + "\n"


def licence(folder: Path | None) -> str | None:
    """What the card in a folder says the licence is, None if there is no card or it does not say."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8") if folder else ""
        if not text.lstrip().startswith("---"):  # there is no metadata, which ModelCard would complain of
            return None
        found = ModelCard(text, ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError):
        return None
    return None if found in (None, "unknown") else str(found)


def _metadata(
    report: Report | None, recipe: Recipe | None, net: Spec, kind: str, name: str, license: str | None,
    datasets: Sequence[str],
) -> ModelCardData:  # fmt: skip
    methods = [term.name for stage in recipe.stages for term in stage.methods] if recipe else []
    base = hub_teacher(recipe)  # the Hub knows four relations to it; of those a student is nearest a fine-tune
    relation = "adapter" if adapter_of(net) is Lora else "finetune"
    more: dict[str, Any] = {"base_model": base.name, "base_model_relation": relation} if base else {}
    results = _results(report, recipe, kind) if report else []
    return ModelCardData(
        library_name="kdgen",
        license=license or "unknown",
        pipeline_tag=task_class({"name": kind}).pipeline_tag,
        tags=list(dict.fromkeys(["kdgen", kind, *([recipe.task.name] if recipe else []), *methods])),
        datasets=list(datasets) or None,
        model_name=name if results else None,
        eval_results=results or None,
        **more,
    )


def hub_teacher(recipe: Recipe | None) -> HubId | None:
    """The teacher's repository, of which a recipe that has run says ``hub:``; None for a teacher from elsewhere."""
    teacher = recipe.teacher if recipe else None
    named = isinstance(teacher, str) and teacher.startswith("hub:")
    return HubId.read(str(teacher).partition("#")[0]) if named else None


def _results(report: Report, recipe: Recipe | None, kind: str) -> list[EvalResult]:
    """The student's figures, each with the images and the way it was measured; none of a broken student."""
    row = report.find("student")
    if row is None or row.fault:
        return []
    source = _evaluated_on(report, recipe)
    how = {"task": str(report.task), "seeds": row.num_seeds, "measured": " ".join(report.notes) or "by kdgen"}
    return [
        EvalResult(
            task_type=task_class({"name": kind}).pipeline_tag,
            task_name=kind,
            dataset_type=source,
            dataset_name=source.replace("_", " "),
            metric_type=key.partition("@")[0],
            metric_name=str(heading(key)),
            metric_config=key.partition("@")[2] or None,
            metric_value=value,
            metric_args=how,
            verified=False,
        )
        for key, value in row.metrics.items()
    ]


def _evaluated_on(report: Report, recipe: Recipe | None) -> str:
    """The images of the figures by the name of their source."""
    asked = innermost(recipe.task) if recipe else None
    source = task_class({"name": asked.name}).evaluation_source(asked.args) if asked else "photographs"
    if isinstance(source, Mapping) and "name" in source:
        args = source.get("args", {}) if isinstance(source.get("args"), Mapping) else {}
        path = args.get("path") or args.get("damaged")
        return Path(str(path)).name if path else str(source["name"])
    return "teacher" if source is None and report.find("teacher") is not None else "photographs"


def _opening(report: Report | None, recipe: Recipe | None, net: Spec, kind: str) -> str:
    base = hub_teacher(recipe)
    if recipe is None:
        return f"A `{net}`, made by kdgen to {kind}."
    if recipe.teacher is None:
        teacher = "no teacher"
    elif isinstance(recipe.teacher, Checkpoint):
        teacher = f"a {recipe.teacher.net} checkpoint as teacher"
    else:
        teacher = f"[{base.name}](https://huggingface.co/{base.name}) as teacher" if base else \
                  f"the teacher `{recipe.teacher}`"  # fmt: skip
    start = recipe.init.name or recipe.init.file if isinstance(recipe.init, Checkpoint) else recipe.init
    further = "" if start in STARTS else f", trained further from `{start}`"
    return f"A `{net}` made by kdgen with {teacher}{further}, for {report.task if report else recipe.task}."


def _picture(name: str, told: str) -> str:
    """A picture beside the card, with what is told of it in its place; brackets would end that."""
    alt = ": ".join(filter(None, (name.partition(".")[0], told.replace("[", "(").replace("]", ")"))))
    return f"![{alt}]({name})"


def _use(repo: str, kind: str, net: Spec, task: Mapping[str, Any]) -> str:
    """Lines to use the student with kdgen, and without."""
    how, code = without_kdgen(repo, net, task)
    line = by_command(repo, kind, net, task)
    return "\n\n".join([f"```python\n{with_kdgen(repo, kind, task)}\n```", *filter(None, [line]),
                        f"Without kdgen, {how}:", f"```python\n{code}\n```"])  # fmt: skip


def _cost(report: Report | None) -> str:
    row = report.find("student") if report else None
    if report is None or row is None or row.seconds is None:
        return ""
    steps = f", {row.steps:,} step{'s' if row.steps != 1 else ''}" if row.steps is not None else ""
    machine = f" on {report.machine}" if report.machine else ""
    return f"Training took {row.seconds:.0f} s{machine}, the teacher's answers included{steps}."


def _limits(report: Report | None, kind: str, task: Mapping[str, Any]) -> str:
    sentences = [task_class({"name": kind}).limits(task)]
    if report is None:
        sentences.append("It was not measured: this card has no figures.")
    else:
        sentences.append(f"Its figures hold for {report.task} as measured, and were checked by nobody else.")
        if report.find("teacher") is not None:
            sentences.append("What its teacher does wrong it does wrong too.")
    return " ".join(sentences)


def _licences(recipe: Recipe | None, license: str | None, teacher: Path | None) -> str:
    lines = [f"- this student: {license or 'not stated by its publisher'}"]
    if recipe is not None and recipe.teacher is not None:
        lines.append(f"- its teacher: {licence(teacher) or 'not known'}")
    if recipe is not None and recipe.init not in STARTS:
        lines.append("- the model that it was trained further from: not known")
    if recipe is not None:
        default = task_class({"name": innermost(recipe.task).name}).default_images
        named = sorted(_sources(recipe.task.args)) or ([] if default is None else [default])
        lines += [f"- {name.replace('_', ' ')}: {SOURCES.get(name, 'not known')}" for name in named]
    return "\n".join(lines)


def _sources(value: Any) -> set[str]:
    """Names of the sources of images that the arguments of a task hold."""
    if isinstance(value, Mapping):
        inner = {found for part in value.values() for found in _sources(part)}
        name = value.get("name")
        return inner | ({name} if name in registry.names("images") and name != "mixture" else set())
    return {found for part in value for found in _sources(part)} if isinstance(value, list) else set()
