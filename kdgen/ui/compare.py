"""The Compare tab: models side by side on the same input, and what each costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from itertools import compress
from typing import Any

import gradio as gr
from PIL import Image

from kdgen.models.task_arguments import changes_images, task_class
from kdgen.report.captions import shortened
from kdgen.report.report import Report
from kdgen.report.said import about_of
from kdgen.types import UserError
from kdgen.ui import brush, comparing, heard_markup, markup, prompting
from kdgen.ui.charts import tradeoff_chart
from kdgen.ui.heard import Heard
from kdgen.ui.models import Models
from kdgen.ui.pictures import FIRST, Pictures
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import session_of
from kdgen.ui.side_by_side import Shown
from kdgen.ui.theme import backgrounds
from kdgen.ui.undone import is_graded, specialists
from kdgen.ui.visitors import STUDENTS, TEACHERS
from kdgen.ui.words import say, translated, words_for

PATIENCE = 20.0
"""Seconds to learn what models read, before every input is shown."""


FIRST_PAIR = ("denoiser", "denoise-student")
"""What is compared where nothing was chosen."""

THUMBNAIL = 140
"""Width of the pictures on buttons, in pixels."""


@dataclass(slots=True)
class Comparing:
    """What other tabs need of this one."""

    models: gr.Dropdown
    run: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


def offered(runs: Runs, session: str, students: Sequence[str]) -> list[tuple[str, str]]:
    """Models by the name they are shown under: this session's runs and teachers, bundled ones, students of the Hub."""
    try:
        own = [(f"{job.name} · {job.id[:4]}", f"run:{job.id}") for job in runs.owned_by(session) if job.state == "done"]
    except UserError:
        own = []
    own += [(about.name, name) for name, about in runs.own.listed(session, "teacher").items()]
    teachers = (name for name in TEACHERS if name != "vae#encoder")
    return [*own, *((name, name) for name in (*STUDENTS, *teachers, *students))]


def tab(models: Models, students: Sequence[str]) -> Comparing:
    """The tab."""
    pictures = Pictures(models.runs.limits)
    limits = models.runs.limits
    photographs = comparing.photographs()
    with gr.Row(equal_height=False, elem_classes="kd-columns"):
        with gr.Column(scale=4, min_width=320):
            with gr.Group(elem_classes="kd-card"):
                chosen = gr.Dropdown(offered(models.runs, "", students), value=[*FIRST_PAIR], multiselect=True,
                                     allow_custom_value=True, max_choices=limits.models, label=say("models"),
                                     info=say("models_info"), elem_id="kd-models")  # fmt: skip
            with gr.Group(elem_classes="kd-card") as picture:
                example = gr.Radio([(say(f"picture_{name}"), name) for name in photographs], value=FIRST,
                                   label=say("examples"), info=say("examples_info"), elem_id="kd-examples",
                                   elem_classes="kd-cards")  # fmt: skip
                gr.HTML(_looks(photographs), elem_id="kd-examples-looks")
                photo = gr.Image(photographs[FIRST], label=say("photograph"), interactive=False,
                                 type="pil", height=200,
                                 buttons=[], elem_id="kd-photo", alt_text="The photograph")  # fmt: skip
                named = gr.Textbox(FIRST, visible=False)
                upload = gr.UploadButton(say("upload"), file_types=["image"], elem_id="kd-upload", size="sm")
                with gr.Column(visible=False) as painting:
                    paint = brush.editor(photographs[FIRST])
                    gr.HTML(say("brush_info"), elem_classes="kd-hint kd-info", padding=False)
                with gr.Column(min_width=200) as damage:
                    sigma = gr.Slider(0, 75, 25, step=1, label=say("sigma"), info=say("sigma_info"))
                    strength = gr.Slider(0, 1, 0.5, step=0.05, label=say("strength"), info=say("strength_info"),
                                         visible=False, elem_id="kd-strength")  # fmt: skip
                    noisy = gr.Checkbox(False, label=say("noisy"), info=say("noisy_info"))
            asking = prompting.panel()
            with gr.Group(elem_classes="kd-card") as chance, gr.Row():
                seed = gr.Number(0, label=say("seed"), info=say("seed_info"), precision=0, min_width=140)
                count = gr.Slider(4, limits.images, 16, step=4, label=say("num_images"), info=say("num_images_info"),
                                  visible=False)  # fmt: skip
                steps = gr.Slider(0, 50, 0, step=1, label=say("num_steps"), info=say("num_steps_info"),
                                  visible=False)  # fmt: skip
            notice = gr.HTML(elem_id="kd-compare-notice")
            go = gr.Button(say("compare"), variant="primary", size="lg", elem_id="kd-compare")
        with gr.Column(scale=7, min_width=320):
            slider = gr.ImageSlider(label=say("tab_compare"), interactive=False, visible=False, elem_id="kd-slider",
                                    max_height=560, buttons=["fullscreen"])  # fmt: skip
            caption = gr.HTML(elem_id="kd-caption")
            figures = gr.HTML(elem_id="kd-figures")
            sheet = gr.HTML(say("nothing_compared"), elem_id="kd-sheet")
            with gr.Group(elem_classes="kd-card") as large:
                full = gr.Button(say("full"), size="sm", elem_id="kd-full")
                gr.HTML(say("full_info"), elem_classes="kd-hint kd-info")
                files = gr.File(label=say("full_files"), file_count="multiple", visible=False, interactive=False,
                                elem_id="kd-full-files")  # fmt: skip
    upload.upload(_taken(pictures), [upload], [photo, paint, named, notice, example], api_visibility="private",
                  show_progress="minimal")  # fmt: skip
    inputs = [chosen, named, sigma, strength, noisy, seed, paint, count, steps, *asking.given]
    outputs = [notice, slider, caption, figures, sheet]
    run = _run(models, pictures)
    full.click(_full(models, pictures), inputs[:7], [notice, files], api_visibility="private",
               show_progress="minimal", concurrency_id="compare")  # fmt: skip
    chosen.change(_suited(models, pictures), [chosen, named],
                  [picture, damage, sigma, strength, photo, painting, count, steps, large, chance, paint,
                   *asking.shown],
                  api_visibility="private", show_progress="hidden", queue=False)  # fmt: skip
    shows: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "concurrency_id": "compare"}
    go.click(run, inputs, outputs, concurrency_limit=1, **shows)
    asking.prompt.submit(run, inputs, outputs, **shows)
    asking.prompt.input(None, None, [asking.examples], js="() => null", api_visibility="private", queue=False)
    asking.examples.input(
        None, [asking.examples], [asking.prompt], js="(a) => a", api_visibility="private", queue=False
    ).then(run, inputs, outputs, **shows)
    example.input(
        lambda name: [*_both(comparing.photographs().get(name)), name],
        [example],
        [photo, paint, named],
        api_visibility="private",
        queue=False,
    ).then(run, inputs, outputs, **shows)
    return Comparing(chosen, run, inputs, outputs)


def _looks(photographs: Mapping[str, Image.Image]) -> str:
    """Photographs as the background of the buttons that choose them."""
    small = [markup.address(image, width=THUMBNAIL) for image in photographs.values()]
    return f"<style>{backgrounds('kd-examples', small)}</style>"


def _both(image: Image.Image | None) -> list[Any]:
    """A picture as it is shown, and as it is painted on."""
    return [image, brush.on(image)]


def _suited(models: Models, pictures: Pictures) -> Callable[..., list[Any]]:
    """Shows the inputs that the chosen models read.

    These are a photograph, to be painted on for models that are told what is missing; how it is damaged; how many
    images are drawn, in how many steps, of which words.
    """

    def suited(references: list[str], name: str, request: gr.Request) -> list[Any]:
        told, under = False, None
        hub = [reference for reference in references or () if "/" in reference and reference[0] not in "/~"]
        local = [reference for reference in references or () if reference not in hub]
        try:
            tasks = [models.task(reference, session_of(request), wait=PATIENCE) for reference in local]
        except UserError:
            tasks = []
        known = bool(tasks) and not hub
        if not known:
            shown = [True, True, True, True, True, False, True, True, True, True]
        else:
            kinds = [task_class(task) for task in tasks]
            change, told = any(map(changes_images, tasks)), any(map(brush.told_a_mask, specialists(tasks)))
            looks = change or any(map(about_of, tasks))
            sigma, strengths = any(kind.takes_sigma for kind in kinds), [kind.takes_strength for kind in kinds]
            graded = any(map(is_graded, specialists(compress(tasks, strengths))))
            few = any("sampler" in task for task in tasks) or any(
                kind.draws and kind.gives == "latents" for kind in kinds
            )
            large = change and any(kind.tiled for kind in kinds)
            shown = [looks, sigma or any(strengths), sigma, graded, not told, told, not looks, few, large,
                     sigma or graded or few or not looks]  # fmt: skip
        with suppress(UserError):
            under = brush.on(pictures.get(name, session_of(request))) if told else None
        return [*(gr.update(visible=each) for each in shown), gr.skip() if under is None else under,
                *prompting.suited(tasks if known else None)]  # fmt: skip

    return suited


def _run(models: Models, pictures: Pictures) -> Callable[..., Iterator[list[Any]]]:
    limits = models.runs.limits

    def run(references: list[str], picture: str, sigma: float, strength: float, noisy: bool, seed: float,
            painted: list[str], count: float, steps: float, prompt: str, own: bool, guidance: float,
            request: gr.Request) -> Iterator[list[Any]]:  # fmt: skip
        words = words_for(request)
        skip = gr.skip()
        try:
            mask = brush.painted(painted, limits)
            options = comparing.Options.within(limits, sigma=sigma, strength=strength, seed=seed, num_images=count,
                                               num_steps=steps, noisy=bool(noisy), prompt=prompt,
                                               guidance=None if own else guidance)  # fmt: skip
            named = models.named_all(references, session_of(request))
            if not named:
                raise UserError(words["two_models"])
            yield [markup.notice(words["working"], kind="good"), skip, skip, skip, skip]
            photo = pictures.get(picture, session_of(request))
            names, shown = models.worker.call("show", named, photo, options, mask)
            if isinstance(shown, Heard):
                pair = gr.update(value=shown.pair, visible=shown.pair is not None)
                yield [markup.notice(words["measuring"], kind="good"), pair, heard_markup.told(shown, words), "", ""]
                yield ["", skip, skip, _figures(models.worker.call("measure", named, options), words), skip]
                return
            first, second, *_ = names if len(names) > 1 else [words["input"], *names]
            yield [markup.notice(words["measuring"], kind="good"), gr.update(value=shown.pair, visible=True),
                   _caption(shown, first, second, words), "", _sheet(shown, first, second, words)]  # fmt: skip
            yield ["", skip, skip, _figures(models.worker.call("measure", named, options), words), skip]
        except UserError as error:
            yield [markup.refusal(error, words), skip, skip, skip, skip]

    return run


def _full(models: Models, pictures: Pictures) -> Callable[..., list[Any]]:
    """Before and after at full size, as files."""
    limits = models.runs.limits

    def full(references: list[str], picture: str, sigma: float, strength: float, noisy: bool, seed: float,
             painted: list[str], request: gr.Request) -> list[Any]:  # fmt: skip
        session = session_of(request)
        try:
            mask = brush.painted(painted, limits)
            options = comparing.Options.within(limits, sigma=sigma, strength=strength, seed=seed, num_images=1,
                                               num_steps=1, noisy=bool(noisy))  # fmt: skip
            named = models.named_all(references, session)
            if not named:
                raise UserError(words_for(request)["two_models"])
            room, original = pictures.room(session), pictures.original(picture, session)
            names = models.worker.call("full_size", named, original, options, limits, room, mask)
        except UserError as error:
            return [markup.refusal(error, words_for(request)), gr.update(value=None, visible=False)]
        return ["", gr.update(value=[str(room / name) for name in names], visible=True)]

    return full


def _caption(pictures: Shown, first: str, second: str, words: markup.Words) -> str:
    text = words["pair"].format(first=first, second=second)
    difference = words["difference_said"].format(largest=f"{pictures.largest:.0f}", psnr=f"{pictures.psnr:.1f}")
    asked = _asked(pictures, words)
    notes = "".join(markup.notice(translated(note, words), kind="good") for note in pictures.notes)
    return f"<p class=kd-hint>{escape(' '.join(filter(None, (asked, text, difference))))}</p>{notes}"


def _asked(pictures: Shown, words: markup.Words) -> str:
    return words["asked"].format(prompt=shortened(pictures.prompt)) if pictures.prompt else ""


def _sheet(pictures: Shown, first: str, second: str, words: markup.Words) -> str:
    told = words["sheet_alt"].format(names=f"{first}, {second}")
    samples = markup.picture(pictures.sheet, " ".join(filter(None, (told, _asked(pictures, words)))))
    error = markup.picture(pictures.difference, words["difference_alt"].format(first=first, second=second))
    title = words["difference_title"].format(first=first, second=second)
    return (f'<figure class="kd-figure kd-wide" tabindex="0"><figcaption>{words["sheet_title"]}</figcaption>{samples}'
            f'</figure><figure class="kd-figure"><figcaption>{escape(title)}</figcaption>{error}</figure>')  # fmt: skip


def _figures(report: Report, words: markup.Words) -> str:
    points, quality = comparing.tradeoff(report)
    table = f'<div class="kd-figure">{words["figures"]}{markup.table(report, words)}</div>'
    if not points or len(points) == 1 < len(report.rows):  # of two that draw the first is what the other is measured by
        return table
    chart = tradeoff_chart(points, quality, words)
    return f'{table}<figure class="kd-figure"><figcaption>{words["tradeoff_title"]}</figcaption>{chart}</figure>'


def _taken(pictures: Pictures) -> Callable[..., list[Any]]:
    def taken(path: str | None, request: gr.Request) -> list[Any]:
        if not path:
            return [gr.skip(), gr.skip(), gr.skip(), "", gr.skip()]
        try:
            session = session_of(request)
            name = pictures.add(path, session)
            return [*_both(pictures.get(name, session)), name, "", None]
        except UserError as error:
            return [gr.skip(), gr.skip(), gr.skip(), markup.refusal(error, words_for(request)), gr.skip()]

    return taken
