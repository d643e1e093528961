"""Named endpoints for programs: what the page does, with plain parameters and plain answers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import get_blocks_context
from gradio.events import api
from gradio.utils import get_function_description

from kdgen.presets import preset as find_preset
from kdgen.recipe import override
from kdgen.types import UserError, text
from kdgen.ui import brush, choices, comparing, exports
from kdgen.ui.composing import says_all
from kdgen.ui.job import Job, new_session, not_done
from kdgen.ui.models import Models
from kdgen.ui.pictures import FIRST
from kdgen.ui.progress import follow
from kdgen.ui.runs import Runs
from kdgen.ui.uploads import open_picture
from kdgen.ui.visitors import accept, parsed
from kdgen.ui.watch import packed

TeacherOutput = dict[str, Any]


class Endpoints:
    """What programs may ask for. Mistakes come back as the message of an error.

    Args:
        runs: the line of runs.
        models: where models are asked.
    """

    def __init__(self, runs: Runs, models: Models) -> None:
        self.runs, self.models = runs, models

    def list_presets(self) -> TeacherOutput:
        """List the presets by kind, each with a sentence on what it makes."""
        return {kind: {name: choices.summary(name) for name in choices.presets_of(kind)} for kind in choices.KINDS}

    def distill(
        self, preset: str = "denoise", seconds: float = 60.0, steps: int = 0, settings: str = "", recipe: str = "",
        session: str = "",
    ) -> TeacherOutput:  # fmt: skip
        """Put a distillation into the line.

        Args:
            preset: Name of a preset, see /presets.
            seconds: Length of training in seconds.
            steps: Length of training in steps instead; 0 goes by seconds.
            settings: Further settings, KEY=VALUE, one a line, e.g. batch_size=16 or controls=false.
            recipe: A whole recipe as JSON, in place of all the above.
            session: The secret of an earlier answer, to keep runs together; empty begins a new session.

        Returns:
            The run's id, its state and place in line, and the session, which /status and /stop ask for.
        """
        session = session or new_session()
        chosen: Any = recipe
        if len(settings) > self.runs.limits.text_bytes:
            raise UserError(text("settings_too_long", "settings are longer than {most:,} bytes: they are a few "
                                 "lines", most=self.runs.limits.text_bytes))  # fmt: skip
        if not recipe.strip():
            length = f"steps={steps}" if steps > 0 else f"seconds={seconds}"
            lines = [line.strip() for line in settings.splitlines() if line.strip()]
            chosen = override(find_preset(preset), [length, *lines])
        job = self.runs.submit(accept(chosen, session, self.runs), session)
        return {**_state(self.runs, job), "session": session}

    def status(self, run: str, session: str) -> TeacherOutput:
        """Say how far a run is.

        Args:
            run: Its id, as /distill gave it.
            session: The session that it belongs to.

        Returns:
            Its state (queued, running, done, stopped or failed), place in line, whether it waits for its visitor to
            hold a lent accelerator, phase, share done, seconds left, figures of the last step, and once it is done its
            report.
        """
        return _state(self.runs, self.runs.get(run, session))

    def list_runs(self, session: str) -> list[TeacherOutput]:
        """List the runs of a session, the newest first, each as /status says it, without its report.

        Args:
            session: The session, as /distill gave it.
        """
        return [{**_state(self.runs, job), "report": None} for job in self.runs.owned_by(session)]

    def resume(self, run: str, session: str) -> TeacherOutput:
        """Go on with a stopped or failed run from its last checkpoint.

        Args:
            run: Its id.
            session: The session that it belongs to.
        """
        return _state(self.runs, self.runs.resume(run, session))

    def stop(self, run: str, session: str) -> TeacherOutput:
        """Stop a run, or take it out of the line. What it has learned is kept.

        Args:
            run: Its id.
            session: The session that it belongs to.
        """
        return _state(self.runs, self.runs.stop(run, session))

    def delete(self, run: str, session: str) -> TeacherOutput:
        """Delete a finished, stopped or failed run and all it left.

        Args:
            run: Its id.
            session: The session that it belongs to.
        """
        self.runs.delete(run, session)
        return {"deleted": run}

    def teacher(self, file: str, declaration: str, session: str) -> TeacherOutput:
        """Bring a teacher of your own. It is kept for an hour, for its session alone, and with the runs that name it.

        Args:
            file: A restorer's weights as .safetensors, an .onnx file, or a zip of a model's folder.
            declaration: JSON that says what the file does not: which net it is, its range, other inputs of an ONNX.
            session: The secret of an earlier answer; empty begins a new session.

        Returns:
            Its name, which settings of /distill and names of /compare take; its task, parameters and what is to be
            known of it; where that says all, a recipe for /distill as JSON, or why there is none; and the session.
        """
        session = session or new_session()
        if not file:
            raise UserError(text("no_teacher_file", "there is no file: upload one"))
        if len(declaration) > self.runs.limits.text_bytes:
            raise UserError(text("declaration_too_long", "this declaration is longer than {most:,} bytes: it is a few "
                                 "lines", most=self.runs.limits.text_bytes))  # fmt: skip
        declared = parsed(declaration) if declaration.strip() else None
        reference, about = self.models.bring([Path(file)], declared, session)
        notes, recipe = list(map(str, about.notes)), None
        if says_all({"name": about.task}):
            try:
                found = self.models.inferred(reference, session, wait=self.runs.limits.request_seconds)
                recipe = found.model_copy(update={"teacher": reference}).to_json()
            except UserError as error:
                notes.append(str(error))
        return {"teacher": reference, "name": about.name, "task": about.task, "num_params": about.count,
                "notes": notes, "recipe": recipe, "session": session}  # fmt: skip

    def student(self, run: str, session: str) -> str:
        """Download the student of a finished run as a zip.

        Args:
            run: Its id.
            session: The session that it belongs to.
        """
        job = self.runs.get(run, session)
        if job.state != "done":
            raise UserError(not_done(job))
        return str(packed(self.runs, job)[0])

    def export(self, run: str, session: str, format: str) -> tuple[str, TeacherOutput]:
        """Download the student of a finished run for another runtime.

        Args:
            run: Its id.
            session: The session that it belongs to.
            format: onnx, onnx-fp16, int8 (ONNX in 8 bits), ncnn (a zip; nets of pictures), safetensors-fp16 (a zip).

        Returns:
            The file, and how near it is to the student, how large and how fast, as `kdgen export` measured it.
        """
        file, parity = exports.exported(self.runs, self.runs.get(run, session), format)
        return str(file), parity

    def compared(
        self,
        names: str,
        photograph: str | None,
        sigma: float,
        seed: float,
        num_images: float,
        num_steps: float,
        session: str,
        strength: float = 0.5,
        mask: str | None = None,
        prompt: str = "",
        guidance: float | None = None,
    ) -> tuple[TeacherOutput, Any]:
        """Compare models on one input.

        Args:
            names: Names, ids of the Hub or run:ID, with commas between; the first is the reference.
            photograph: A picture for models that change pictures; a bundled one if there is none.
            sigma: Noise added to it, in 8-bit units.
            seed: Of the noise or the latents.
            num_images: How many images models draw, 64 at most unless this app says otherwise.
            num_steps: Of students made to draw in few and of text-to-image models; 0 is as many as each was made for.
            session: The session that run:ID belongs to.
            strength: Of other damage done to it, which the models undo: 0 is the least they were made for, 1 the most.
            mask: For inpainters, a picture as large as the photograph, white where that is missing; else by chance.
            prompt: What text-to-image models are asked for, all of them the same, from the same noise.
            guidance: Scale of classifier-free guidance, 1 for none; left out it is each model's own.

        Returns:
            The table of figures (latency is that of this machine now), and the picture of all side by side.
        """
        options = comparing.Options.within(self.runs.limits, sigma=sigma, strength=strength, seed=seed,
                                           num_images=num_images, num_steps=num_steps, prompt=prompt,
                                           guidance=guidance)  # fmt: skip
        session = session or new_session()
        named = self.models.named_all(names.split(","), session)
        if len(named) < 2:
            raise UserError(text("two_models_named", "name at least two models, with a comma between"))
        photo = open_picture(photograph, self.runs.limits) if photograph else comparing.photographs()[FIRST]
        missing = None
        if mask:
            told = (self.models.task(each, session, wait=self.runs.limits.request_seconds) for each, *_ in named)
            if not any(map(brush.told_a_mask, told)):
                raise UserError(text("mask_untold", "none of these models is told what is missing: leave out the mask, "
                                     "or name one that fills it in"))  # fmt: skip
            missing = brush.drawn(mask, photo.size, self.runs.limits)
        _, shown = self.models.worker.call("show", named, photo, options, missing)
        report = self.models.worker.call("measure", named, options)
        return report.model_dump(mode="json"), shown.sheet


def endpoints(runs: Runs, models: Models) -> None:
    """Declare the endpoints within the page."""
    own, line, number, file = Endpoints(runs, models), gr.Textbox, gr.Number, partial(gr.File, type="filepath")
    named = {"presets": own.list_presets, "distill": own.distill, "status": own.status, "runs": own.list_runs,
             "stop": own.stop, "resume": own.resume, "delete": own.delete}  # fmt: skip
    for name, function in named.items():
        _describe(api(function, api_name=name, queue=name != "status"), function)
    with gr.Row(visible=False):
        _declare("teacher", own.teacher,
                 [file(label="file"), line("", label="declaration"), line("", label="session")],
                 [gr.JSON(label="teacher")], concurrency_limit=2)  # fmt: skip
        _declare("student", own.student, [line(label="run"), line(label="session")], [gr.File(label="student")])
        _declare("export", own.export,
                 [line(label="run"), line(label="session"), line("onnx", label="format")],
                 [gr.File(label="file"), gr.JSON(label="parity")], concurrency_limit=2)  # fmt: skip
        _declare("compare", own.compared,
                 [line("denoiser", label="models"), file(label="photograph"), number(25, label="sigma"),
                  number(0, label="seed", precision=0), number(16, label="num_images", precision=0),
                  number(0, label="num_steps", precision=0), line(label="session"), number(0.5, label="strength"),
                  file(label="mask"), line("", label="prompt"), number(None, label="guidance")],
                 [gr.JSON(label="report"), gr.Image(label="picture", format="png")],
                 concurrency_limit=1, concurrency_id="compare")  # fmt: skip


def _declare(name: str, function: Callable[..., Any], inputs: list[Any], outputs: list[Any], **bounds: Any) -> None:
    """An endpoint that takes or gives files or pictures, which those of ``gradio.api`` do not."""
    _describe(gr.Button(name).click(function, inputs, outputs, api_name=name, **bounds), function)


def _describe(endpoint: Any, function: Any) -> None:
    """Let the documentation of an endpoint say what its parameters are, in the words of the function's docstring."""
    _, parameters, _ = get_function_description(function)
    page = get_blocks_context()
    assert page is not None, "endpoints are declared within a page"
    for id, words in zip(endpoint["inputs"], parameters.values(), strict=True):
        block: Any = page.blocks[id]
        info = {**block.api_info(), "additional_description": words}
        for name in ("api_info", "api_info_as_input"):
            setattr(block, name, partial(dict, info))


def _state(runs: Runs, job: Job) -> TeacherOutput:
    progress = follow(runs.home(job) / "run")
    report = progress.report() if job.state == "done" else None
    return {
        "run": job.id, "name": job.name, "state": job.state, "place": runs.place(job.id), "message": job.message,
        "waits": runs.waits(job),
        "phase": progress.phase, "share": round(progress.overall, 4), "seconds_left": progress.seconds_left,
        "terms": dict(progress.terms), "report": report.model_dump(mode="json") if report else None,
    }  # fmt: skip
