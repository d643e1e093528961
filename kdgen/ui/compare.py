"""The Compare tab: models side by side on the same input, and what each costs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Annotated, Any, Self

import gradio as gr
from PIL import Image
from pydantic import Field

from kdgen.models.model import Model
from kdgen.models.task_arguments import changes_images, task_class
from kdgen.types import UserError
from kdgen.types.arguments import Sigma, check_argument
from kdgen.ui import comparing, markup
from kdgen.ui.charts import tradeoff_chart
from kdgen.ui.limits import Limits
from kdgen.ui.models import Models
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.uploads import open_picture
from kdgen.ui.visitors import TEACHERS
from kdgen.ui.words import say, words_for


@dataclass(slots=True)
class Comparing:
    """What other tabs need of this one."""

    models: gr.Dropdown
    run: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


def offered(runs: Runs, session: str, students: Sequence[str]) -> list[tuple[str, str]]:
    """Models by the name they are shown under: this session's runs, bundled ones, students of the Hub."""
    try:
        own = [(f"{job.name} · {job.id[:4]}", f"run:{job.id}") for job in runs.owned_by(session) if job.state == "done"]
    except UserError:
        own = []
    return [*own, *((name, name) for name in TEACHERS if name != "vae#encoder"), *((name, name) for name in students)]


def tab(models: Models, students: Sequence[str]) -> Comparing:
    """The tab."""
    limits = models.runs.limits
    names = list(comparing.photographs())
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            with gr.Group(elem_classes="kd-card"):
                chosen = gr.Dropdown(offered(models.runs, "", students), value=["denoiser"], multiselect=True,
                                     allow_custom_value=True, max_choices=limits.models, label=say("models"),
                                     info=say("models_info"), elem_id="kd-models")  # fmt: skip
            with gr.Group(elem_classes="kd-card") as picture:
                example = gr.Radio(names, value="chelsea", label=say("examples"), info=say("examples_info"))
                photo = gr.Image(comparing.photographs()["chelsea"], label=say("photograph"), interactive=False,
                                 type="pil", height=200,
                                 buttons=[], elem_id="kd-photo", alt_text="The photograph")  # fmt: skip
                upload = gr.UploadButton(say("upload"), file_types=["image"], elem_id="kd-upload", size="sm")
                with gr.Column(min_width=200) as noise:
                    sigma = gr.Slider(0, 75, 25, step=1, label=say("sigma"), info=say("sigma_info"))
                    noisy = gr.Checkbox(False, label=say("noisy"), info=say("noisy_info"))
            with gr.Group(elem_classes="kd-card"), gr.Row():
                seed = gr.Number(0, label=say("seed"), info=say("seed_info"), precision=0, min_width=140)
                count = gr.Slider(4, limits.images, 16, step=4, label=say("num_images"), info=say("num_images_info"),
                                  visible=False)  # fmt: skip
                steps = gr.Slider(1, 8, 1, step=1, label=say("num_steps"), info=say("num_steps_info"),
                                  visible=False)  # fmt: skip
            go = gr.Button(say("compare"), variant="primary", size="lg", elem_id="kd-compare")
            notice = gr.HTML(elem_id="kd-compare-notice")
        with gr.Column(scale=7, min_width=320):
            slider = gr.ImageSlider(label=say("tab_compare"), interactive=False, visible=False, elem_id="kd-slider",
                                    max_height=560, buttons=["fullscreen"])  # fmt: skip
            caption = gr.HTML(elem_id="kd-caption")
            figures = gr.HTML(elem_id="kd-figures")
            sheet = gr.HTML(say("nothing_compared"), elem_id="kd-sheet")
    upload.upload(_taken(models), [upload], [photo, notice], api_visibility="private", show_progress="minimal")
    inputs = [chosen, photo, sigma, noisy, seed, count, steps]
    outputs = [notice, slider, caption, figures, sheet]
    run = _run(models)
    chosen.change(_suited(models), [chosen], [picture, noise, count, steps], api_visibility="private",
                  show_progress="hidden", queue=False)  # fmt: skip
    go.click(run, inputs, outputs, api_visibility="private", show_progress="minimal", concurrency_limit=1,
             concurrency_id="compare")  # fmt: skip
    example.input(
        lambda name: comparing.photographs()[name], [example], [photo], api_visibility="private", queue=False
    ).then(run, inputs, outputs, api_visibility="private", show_progress="minimal", concurrency_id="compare")
    return Comparing(chosen, run, inputs, outputs)


def _suited(models: Models) -> Callable[..., list[Any]]:
    """Shows the inputs that the chosen models read: a photograph, its noise, how many images, in how many steps."""

    def suited(references: list[str], request: gr.Request) -> list[Any]:
        local = [reference for reference in references or () if reference in TEACHERS or reference.startswith("run:")]
        try:
            tasks = [models.get(reference, session_of(request)).task for reference in local]
        except UserError:
            tasks = []
        if not tasks or len(local) < len(references):
            return [gr.update(visible=True)] * 4
        change, noise = any(map(changes_images, tasks)), any(task_class(task).takes_sigma for task in tasks)
        few = any("sampler" in task for task in tasks)
        return [gr.update(visible=shown) for shown in (change, noise, not change, few)]

    return suited


def load_all(models: Models, references: Sequence[str], session: str) -> dict[str, Model]:
    """Models by the name they are shown under. Raises UserError for fewer than two, or too many."""
    names = list(dict.fromkeys(str(reference).strip() for reference in references or () if str(reference).strip()))
    limit = models.runs.limits.models
    if len(names) > limit:
        raise UserError(f"at most {limit} models are compared at once, not {len(names)}")
    found: dict[str, Model] = {}
    for reference in names:
        model = models.get(reference, session)
        name = model.name if model.name not in found else f"{model.name} ({reference.removeprefix('run:')[:12]})"
        found[name] = model
    return found


@dataclass(frozen=True, slots=True)
class Options:
    """The numbers of a comparison.

    Attributes:
        sigma: noise that is added, in 8-bit units.
        seed: of the noise or the latents.
        num_images: how many images models draw.
        num_steps: in how many steps, by those made to draw in few.
    """

    sigma: float
    seed: int
    num_images: int
    num_steps: int

    @classmethod
    def within(cls, limits: Limits, *, sigma: Any, seed: Any, num_images: Any, num_steps: Any) -> Self:
        """The numbers as a visitor gave them. Raises UserError for what is no number, or not within the limits."""
        check_argument("compare", "sigma", sigma, Sigma)
        for name, value, least, most in (("seed", seed, 0, 2**53), ("num_images", num_images, 1, limits.images),
                                         ("num_steps", num_steps, 1, limits.num_steps)):  # fmt: skip
            check_argument("compare", name, value, Annotated[float, Field(ge=least, le=most)])
        return cls(float(sigma), int(seed), int(num_images), int(num_steps))


def show(
    found: dict[str, Model], photo: Image.Image | None, options: Options, *, noisy: bool = False
) -> comparing.Shown:
    """The pictures of a comparison, of the kind that suits the models."""
    if not changes_images(comparing.shared_task(found)):
        return comparing.on_latents(
            found, num_images=options.num_images, seed=options.seed, num_steps=options.num_steps
        )
    picture = photo if photo is not None else comparing.photographs()["chelsea"]
    return comparing.on_photograph(found, picture, sigma=options.sigma, seed=options.seed, noisy=noisy)


def _run(models: Models) -> Callable[..., Iterator[list[Any]]]:
    limits = models.runs.limits

    def run(references: list[str], photo: Image.Image | None, sigma: float, noisy: bool, seed: float,
            count: float, steps: float, request: gr.Request) -> Iterator[list[Any]]:  # fmt: skip
        words = words_for(request)
        skip = gr.skip()
        try:
            options = Options.within(limits, sigma=sigma, seed=seed, num_images=count, num_steps=steps)
            found = load_all(models, references, session_of(request))
            if not found or (len(found) < 2 and not changes_images(comparing.shared_task(found))):
                raise UserError(words["two_models"])
            yield [markup.notice(words["working"], kind="good"), skip, skip, skip, skip]
            pictures = show(found, photo, options, noisy=bool(noisy))
            first, second, *_ = [*found] if len(found) > 1 else [words["input"], *found]
            yield [markup.notice(words["measuring"], kind="good"), gr.update(value=pictures.pair, visible=True),
                   _caption(pictures, first, second, words), "", _sheet(pictures, first, second, words)]  # fmt: skip
            yield ["", skip, skip, _figures(found, options.sigma, words), skip]
        except (UserError, RuntimeError) as error:
            yield [markup.notice(str(error)[:300]), skip, skip, skip, skip]

    return run


def _caption(pictures: comparing.Shown, first: str, second: str, words: markup.Words) -> str:
    text = words["pair"].format(first=first, second=second)
    difference = words["difference_said"].format(largest=f"{pictures.largest:.0f}", psnr=f"{pictures.psnr:.1f}")
    return f"<p class=kd-hint>{escape(text)} {escape(difference)}</p>"


def _sheet(pictures: comparing.Shown, first: str, second: str, words: markup.Words) -> str:
    samples = markup.picture(pictures.sheet, words["sheet_alt"].format(names=f"{first}, {second}"))
    error = markup.picture(pictures.difference, words["difference_alt"].format(first=first, second=second))
    title = words["difference_title"].format(first=first, second=second)
    return (f'<figure class="kd-figure kd-wide" tabindex="0"><figcaption>{words["sheet_title"]}</figcaption>{samples}'
            f'</figure><figure class="kd-figure"><figcaption>{escape(title)}</figcaption>{error}</figure>')  # fmt: skip


def _figures(found: dict[str, Model], sigma: float, words: markup.Words) -> str:
    report = comparing.measured(found, sigma=sigma)
    points, quality = comparing.tradeoff(report)
    chart = tradeoff_chart(points, quality, words)
    return (f'<div class="kd-figure">{words["figures"]}{markup.table(report, words)}</div><figure class="kd-figure">'
            f"<figcaption>{words['tradeoff_title']}</figcaption>{chart}</figure>")  # fmt: skip


def _taken(models: Models) -> Callable[[str], list[Any]]:
    def taken(path: str | None) -> list[Any]:
        if not path:
            return [gr.skip(), ""]
        try:
            return [open_picture(path, models.runs.limits), ""]
        except UserError as error:
            return [gr.skip(), markup.notice(str(error))]

    return taken
