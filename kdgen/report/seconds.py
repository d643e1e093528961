"""Where the seconds of a student's run went, as figures and in words."""

from pydantic import Field

from kdgen.types import Text, text
from kdgen.utils.schema import Strict


class Seconds(Strict):
    """Where the seconds of the student's run went."""

    answers: float = Field(0.0, ge=0, description="seconds for the teacher's cached answers")
    training: float = Field(0.0, ge=0, description="seconds for training the student")
    answers_from_disk: bool = Field(False, description="whether the answers lay on disk already")
    drawing: float | None = Field(
        None, ge=0, description="seconds for drawing the images to train on; 0 where they lay on disk, null for none"
    )
    assistants: float = Field(0.0, ge=0, description="seconds for all assistants, their teachers' answers included")

    def account(self, *, taught: bool, controlled: bool) -> Text:
        """Sentences on them.

        Args:
            taught: whether there was a teacher.
            controlled: whether a control was given as many seconds.
        """
        assisted = bool(self.assistants)
        trained = text("student_trained", "The student trained for {seconds:.0f} s", seconds=self.training)
        if assisted:
            trained = text("assistants_took", "{trained}, its assistants took {seconds:.0f} s", trained=trained,
                           seconds=self.assistants)  # fmt: skip
        if not taught:
            return text("sentence", "{words}.", words=trained)
        source = text("answers_of_chain", "cached answers of the net before it") if assisted else \
            text("answers_of_teacher", "teacher's cached answers")  # fmt: skip
        answers = text("answers_on_disk", "already lay on disk") if self.answers_from_disk else \
            text("answers_took", "took {seconds:.0f} s", seconds=self.answers)  # fmt: skip
        parts = [text("answers_account", "{trained}; the {source} {answers}{control}.", trained=trained, source=source,
                      answers=answers, control=self._control() if controlled else "")]  # fmt: skip
        if controlled and assisted:
            parts.append(text("control_had_assistants", "It had the assistants' seconds too."))
        if self.drawing is not None:
            parts.append(self._drawn(self.drawing, controlled=controlled))
        return text("sentences", "{parts: }", parts=parts)

    def _control(self) -> Text:
        if self.answers_from_disk:
            return text("control_no_time", ", and the control at equal seconds was given no time for them")
        return text("control_time", ", and the control at equal seconds was given that time too")

    def _drawn(self, seconds: float, *, controlled: bool) -> Text:
        if not seconds:
            return text("images_on_disk", "The images to train on, drawn by a model, already lay on disk.")
        control = text("control_images", ", and the control at equal seconds was given them too") if controlled else ""
        return text("images_took", "Drawing the images to train on took {seconds:.0f} s, which count as the student's"
                    "{control}.", seconds=seconds, control=control)  # fmt: skip


__all__ = ["Seconds"]
