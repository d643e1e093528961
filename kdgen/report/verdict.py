"""What a report says in a sentence: what is broken, and whether the teacher helped."""

from kdgen.metrics.columns import column_of
from kdgen.report.report import ROLES, Report, Role, in_decibels, outdoes
from kdgen.types import Text, text

HELPED = text("helped", "helped")
WORSE = text("did_not_help", "did NOT help")
ALIKE = text("no_difference", "made no difference")
AT_EQUAL: dict[Role, Text] = {"control_steps": text("steps", "steps"), "control_seconds": text("seconds", "seconds")}
LEVELS = {"teacher": text("role_teacher", "teacher"), "data": text("data", "data")}


def verdict(report: Report) -> Text:
    """What is broken, and whether the teacher helped: the student's headline figure against both controls'."""
    parts = [text("broken", "BROKEN: the {role} {name} {fault}.", role=ROLES[row.role], name=row.name, fault=row.fault)
             for row in report.rows if row.fault]  # fmt: skip
    parts += [*_idle(report), *_helped(report)]
    return text("sentences", "{parts: }", parts=parts) if parts else Text("")


def _idle(report: Report) -> list[Text]:
    """That a student does not even outdo its input, where it does not."""
    student, input, key = report.find("student"), report.find("input"), report.primary_metric
    if student is None or input is None or student.fault or not {key} <= student.metrics.keys() & input.metrics.keys():
        return []
    words, gain = _judge(key, student.metrics[key], input.metrics[key])
    if words == HELPED:
        return []
    return [text("no_better_than_input", "The student is NO BETTER than the {input}: {gain}.", input=input.name,
                 gain=gain)]  # fmt: skip


def _helped(report: Report) -> list[Text]:
    student, teacher, key = report.find("student"), report.find("teacher"), report.primary_metric
    if student is None or teacher is None or key not in student.metrics:
        return []
    opening = [] if report.ground_truth else \
        [text("no_truth", "There was no ground truth: alpha was 1, the teacher the only guide.")]  # fmt: skip
    controls = [row for row in map(report.find, AT_EQUAL) if row is not None and key in row.metrics]
    sound = [row for row in controls if not row.fault]
    if not controls:
        return [*opening, text("no_control", "Whether the teacher helped can't be told: no control was trained.")]
    if student.fault or not sound:
        return [*opening, text("broken_control", "Whether the teacher helped can't be told: the figures of what is "
                               "broken say nothing.")]  # fmt: skip
    own = student.metrics[key]
    judged = [(AT_EQUAL[row.role], *_judge(key, own, row.metrics[key])) for row in sound]
    if len({words for _, words, _ in judged}) == 1:
        return [*opening, text(
            "verdict",
            "The teacher {words}: {gains: and }, against the same student trained without it.",
            words=judged[0][1],
            gains=[text("gain_at_equal", "{gain} at equal {what}", gain=gain, what=what) for what, _, gain in judged],
        )]  # fmt: skip
    return [*opening, text(
        "verdict_mixed",
        "The teacher, against the same student trained without it: at {parts:; at }.",
        parts=[text("words_at_equal", "equal {what} it {words} ({gain})", what=what, words=words, gain=gain)
               for what, words, gain in judged],
    )]  # fmt: skip


def _judge(key: str, own: float, control: float) -> tuple[Text, Text]:
    """Whether the student's figure is better than a control's, and by how much."""
    gain, told = own - control, column_of(key)
    if told.lower:
        share = gain / control if control > 0 else 0.0
        shown = text("distances", "{metric} {own:.4g} against {control:.4g}, {share:+.0%}", metric=key, own=own,
                     control=control, share=share)  # fmt: skip
        same = abs(share) <= told.same
    else:
        metric, _, level = key.partition("@")
        shown = Text(f"{gain:+.2f} dB" if in_decibels(metric) else f"{metric} {gain:+.4f}")
        shown = text("gain_to", "{gain} to the {level}", gain=shown, level=LEVELS.get(level, level)) if level else shown
        same = abs(gain) <= told.same
    return (ALIKE if same else HELPED if outdoes(key, own, control) else WORSE), shown


__all__ = ["verdict"]
