"""What a report says in a sentence: what is broken, and whether the teacher helped."""

from kdgen.report.report import LOWER_IS_BETTER, ROLES, Report, outdoes

SAME = {"psnr": 0.05, "accuracy": 0.002}
"""Two results closer than this are called the same; distances are where they differ by less than ``SAME_SHARE``."""

SAME_SHARE = 0.03


def verdict(report: Report) -> str:
    """What is broken, and whether the teacher helped: the student's headline figure against both controls'."""
    faults = [f"BROKEN: the {ROLES[row.role]} {row.name} {row.fault}." for row in report.rows if row.fault]
    return " ".join([*faults, *filter(None, [_helped(report)])])


def _helped(report: Report) -> str:
    student, teacher, key = report.find("student"), report.find("teacher"), report.primary_metric
    if student is None or teacher is None or key not in student.metrics:
        return ""
    opening = "" if report.ground_truth else "There was no ground truth: alpha was 1, the teacher the only guide. "
    controls = [row for row in (report.find("control_steps"), report.find("control_seconds")) if row is not None]
    controls = [row for row in controls if key in row.metrics]
    sound = [row for row in controls if not row.fault]
    if not controls:
        return f"{opening}Whether the teacher helped can't be told: no control was trained."
    if student.fault or not sound:
        return f"{opening}Whether the teacher helped can't be told: the figures of what is broken say nothing."
    own = student.metrics[key]
    judged = {row.role.removeprefix("control_"): _judge(key, own, row.metrics[key]) for row in sound}
    if len({words for words, _ in judged.values()}) == 1:
        words = next(iter(judged.values()))[0]
        where = " and ".join(f"{gain} at equal {what}" for what, (_, gain) in judged.items())
        return f"{opening}The teacher {words}: {where}, against the same student trained without it."
    parts = "; at ".join(f"equal {what} it {words} ({gain})" for what, (words, gain) in judged.items())
    return f"{opening}The teacher, against the same student trained without it: at {parts}."


def _judge(key: str, own: float, control: float) -> tuple[str, str]:
    """Whether the student's figure is better than a control's, and by how much."""
    gain = own - control
    if key.startswith(LOWER_IS_BETTER):
        share = gain / control if control > 0 else 0.0
        shown, same = f"{key} {own:.4g} against {control:.4g}, {share:+.0%}", abs(share) <= SAME_SHARE
    else:
        metric, _, level = key.partition("@")
        shown = f"{gain:+.2f} dB" if metric == "psnr" else f"{metric} {gain:+.4f}"
        shown, same = shown + f" to the {level}" * bool(level), abs(gain) <= SAME.get(metric, 0.0)
    return ("made no difference" if same else "helped" if outdoes(key, own, control) else "did NOT help"), shown


__all__ = ["verdict"]
