"""What models say of a picture as HTML: classes with probabilities, places in colours with a key, faults as heat."""

from html import escape

from kdgen.report.said import Said
from kdgen.ui import markup
from kdgen.ui.heard import Heard, enlarged
from kdgen.ui.markup import Words
from kdgen.ui.words import translated
from kdgen.utils.palette import palette

CLASSES, PLACES = 5, 12
"""How many classes of a picture are listed, and of its places."""

LEAST = 0.001
"""The share of places that a listed class has at least."""


def told(found: Heard, words: Words) -> str:
    """How far models agree, and a card for each."""
    cards = "".join(_card(name, said, words) for name, said in found.said.items())
    return f'{_agreement(found, words)}<div class="kd-heard">{cards}</div>'


def _agreement(found: Heard, words: Words) -> str:
    """How far they agree, and what is to be known of it."""
    first, *_ = found.said
    lines = [words["pair"].format(first=first if found.agreement else words["input"], second=second)
             for second in [*found.agreement, first][:1] if found.pair is not None]  # fmt: skip
    for name, share in found.agreement.items():
        line = f"agree_{found.about}" if share is not None else "agree_untold"
        figure = f"{share or 0:.2f}" if found.about == "faults" else f"{share or 0:.1%}"
        lines.append(words[line].format(first=first, name=name, share=figure))
    notes = "".join(markup.notice(translated(note, words), kind="good") for note in found.notes)
    return f"<p class=kd-hint>{escape(' '.join(lines))}</p>{notes}" if lines or notes else ""


def _card(name: str, said: Said, words: Words) -> str:
    listed = said.shares[:CLASSES] if said.about == "classes" else [
        each for each in said.shares[:PLACES] if each[1] >= LEAST]  # fmt: skip
    if said.score is not None:
        body = f"<p>{escape(words['fault_score'].format(score=f'{said.score:.2f}'))}</p>" \
               f'<p class="kd-heat" aria-hidden="true"><span>0</span><i></i><span>0.5 +</span></p>' \
               f"<p>{escape(words['fault_scale'])}</p>"  # fmt: skip
    else:
        colours = (
            palette(max((number for *_, number in said.shares), default=0) + 1) if said.about == "places" else None
        )
        body = "".join(_share(each, None if colours is None else colours[each[2]].tolist()) for each in listed)
        body = f'<ol class="kd-shares">{body}</ol>'
    most = ", ".join(f"{called} {share:.0%}" for called, share, _ in listed[:3])
    alt = words[f"heard_{said.about}"].format(name=name, most=most)
    image = markup.picture(enlarged(said.shown), alt, width=800)
    return f'<figure class="kd-figure"><figcaption>{escape(name)}</figcaption>{image}{body}</figure>'


def _share(entry: tuple[str, float, int], colour: list[float] | None) -> str:
    """A class as a line: its name, a bar of its colour, its share."""
    name, share, _ = entry
    paint = "" if colour is None else f"; --paint: rgb({','.join(str(round(255 * each)) for each in colour)})"
    return (f'<li style="--share: {share:.4f}{paint}"><span>{escape(name)}</span><i aria-hidden="true"></i>'
            f"<b>{share:.1%}</b></li>")  # fmt: skip


__all__ = ["told"]
