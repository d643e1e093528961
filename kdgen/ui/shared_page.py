"""The page behind a read-only link: a finished run, how to make it again, and its picture for link previews."""

import io
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kdgen.hub.scan import without_paths
from kdgen.recipe import parse
from kdgen.report.report import Report
from kdgen.types import UserError
from kdgen.ui import markup
from kdgen.ui.browser_student import element
from kdgen.ui.progress import follow
from kdgen.ui.result import Numbers, headline, numbers, pictures_of, result
from kdgen.ui.sharing import GONE, command_line, python
from kdgen.ui.showcase import EXAMPLE, FOLDER
from kdgen.ui.theme import HERE
from kdgen.ui.words import CHINESE, ENGLISH

Words = Mapping[str, str]
SIZE = (1200, 630)
FONTS = "".join(
    f'@font-face {{ font-family: "IBM Plex Sans"; font-weight: {weight}; font-display: swap; '
    f'src: url("../static/fonts/IBMPlexSans/IBMPlexSans-{name}.woff2") format("woff2"); }}'
    for name, weight in (("Regular", "400"), ("Bold", "600 700"))
)
"""Of the app, which Gradio serves."""

INK, SOFT, ACCENT, PAPER = "#1e293b", "#475569", "#0f766e", "#ffffff"


def page(run: Path, pictures: Path, words: Words, *, origin: str, address: str) -> str:
    """The page of a finished run.

    Args:
        run: its folder.
        pictures: its showcase.
        words: of the visitor's language.
        origin: scheme and host of the server, for addresses in link previews.
        address: path of the page.

    Raises:
        UserError: where there is nothing to show.
    """
    progress = follow(run)
    report = progress.report()
    if report is None:
        raise UserError(GONE)
    text, _ = without_paths((run / "recipe.json").read_text(encoding="utf-8"))
    recipe = parse(text)
    found = numbers(report, words)
    told = headline(found, report, words) if found else report.task
    shown = result(report, words, place="shared", pictures=pictures, run=progress, curve=True)
    local = element(f"{address.removeprefix('/')}/browser/", recipe.task.name, words)
    learned = ""
    if (pictures / "learned.webp").is_file():
        alt = escape(words["learned_alt"], quote=True)
        learned = (f"<section><h2>{escape(words['learned_title'])}</h2>"
                   f'<img class=kd-picture alt="{alt}" src="{escape(address)}/learned.webp">'
                   f"{markup.saved_as_gif(f'{address}/learned.gif', words)}</section>")  # fmt: skip
    again = "".join(_copied(name, title, body, words) for name, title, body in (
        ("kd-command", words["again_command"], command_line(recipe)),
        ("kd-python", words["again_python"], python(recipe)),
    ))  # fmt: skip
    folded = (f"<details class=kd-rest><summary>{escape(words['recipe'])}</summary>"
              f"{_copied('kd-json', '', recipe.to_json(), words)}</details>")  # fmt: skip
    title = f"{recipe.name} · kdgen"
    head = previews_of(title, told, f"{origin}{address}/link.jpg", f"{origin}{address}")
    body = (f"<header><a href=\"../\">kdgen</a><p>{escape(words['tagline'])}</p></header>"
            f"<main><h1>{escape(recipe.name)}</h1><div class=kd-card>{shown}</div>{local}{learned}"
            f"<section><h2>{escape(words['again_title'])}</h2>{again}{folded}</section>"
            f"<p><a class=kd-own href=\"../\">{escape(words['your_own'])}</a></p></main>")  # fmt: skip
    return document(title, head, body, words)


def gone(words: Words) -> str:
    """The page of a link that shows nothing any more."""
    body = f'<main><h1>kdgen</h1><p>{escape(words["shared_gone"])}</p><p><a href="../">kdgen</a></p></main>'
    return document("kdgen", "", body, words)


def previews_of(title: str, description: str, picture: str, address: str) -> str:
    """What those read that show a link: a title, a sentence and a picture."""
    named = {"og:type": "website", "og:site_name": "kdgen", "og:title": title, "og:description": description,
             "og:image": picture, "og:image:width": str(SIZE[0]), "og:image:height": str(SIZE[1]),
             "og:url": address}  # fmt: skip
    lines = [f'<meta property="{key}" content="{escape(value, quote=True)}">' for key, value in named.items()]
    lines += ['<meta name="twitter:card" content="summary_large_image">',
              f'<meta name="description" content="{escape(description, quote=True)}">']  # fmt: skip
    return "".join(lines)


def document(title: str, head: str, body: str, words: Words) -> str:
    """A page of its own, with the looks of the app."""
    language = "zh-CN" if words is CHINESE else "en"
    return (f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
            f"<title>{escape(title)}</title>{head}<style>{_looks()}</style></head>"
            f"<body class=kd-page>{body}{_scripts()}</body></html>")  # fmt: skip


def _scripts() -> str:
    return '<script src="../kdgen/page.js"></script><script src="../kdgen/browser_student.js" type="module"></script>'


@lru_cache(maxsize=1)
def _looks() -> str:
    rules = (HERE / "style.css").read_text(encoding="utf-8")
    dark = " ".join(line.split("{", 1)[1].rsplit("}", 1)[0] for line in _blocks(rules, ".dark {"))
    return FONTS + rules + "@media (prefers-color-scheme: dark) { :root { color-scheme: dark; " + dark + " } }"


def _blocks(rules: str, opening: str) -> list[str]:
    """The rules that begin so, whole."""
    found, at = [], rules.find(opening)
    while at >= 0:
        end = rules.index("}", at) + 1
        found.append(rules[at:end])
        at = rules.find(opening, end)
    return found


def _copied(id: str, title: str, text: str, words: Words) -> str:
    return (f'<div class=kd-copied><span>{escape(title)}</span>{markup.copying(id, words)}</div>'
            f'<pre id="{id}" tabindex="0">{escape(text)}</pre>')  # fmt: skip


def link_picture(report: Report | None, pictures: Path, title: str) -> bytes:
    """The picture of link previews, a JPEG: the student's picture beside the teacher's, and the three numbers.

    Args:
        report: whose numbers; None for none.
        pictures: a showcase.
        title: the line above the numbers.
    """
    canvas = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(canvas)
    side, names = SIZE[1], pictures_of(pictures)
    if names:
        canvas.paste(_split(pictures, names[0], side), (0, 0))
    left = side + 44 if names else 80
    found = numbers(report, ENGLISH) if report else None
    _write(draw, (left, 56), "kdgen", 40, ACCENT)
    _write(draw, (left, 112), title, 30, INK, room=SIZE[0] - left - 30)
    for line, (value, name) in enumerate(_lines(found)):
        top = 190 + 142 * line
        _write(draw, (left, top), value, 72, ACCENT)
        _write(draw, (left, top + 84), name, 28, SOFT)
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=85)
    return file.getvalue()


@lru_cache(maxsize=1)
def front_picture() -> bytes:
    """The picture of link previews of the app itself: that of the run that comes with it, as a JPEG."""
    return link_picture(follow(EXAMPLE).report(), EXAMPLE / FOLDER, ENGLISH["link_title"])


def _lines(found: Numbers | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    return [(found.kept[0], f"{ENGLISH['number_kept']}" + (f" ({found.kept[1]})" if len(found.kept[1]) < 22 else "")),
            (found.cheaper, ENGLISH["number_cheaper"]), (found.faster, ENGLISH["number_faster"])]  # fmt: skip


def _split(pictures: Path, name: str, side: int) -> Image.Image:
    """The left half of the input, or of the teacher's, beside the right half of the student's."""
    sides = [each for each in ("input", "teacher") if (pictures / f"{name}-{each}.webp").is_file()]
    halves = []
    for each in [*sides[:1], "student"]:
        with Image.open(pictures / f"{name}-{each}.webp") as image:
            square = min(image.size)
            left, top = (image.width - square) // 2, (image.height - square) // 2
            halves.append(image.convert("RGB").crop((left, top, left + square, top + square)).resize((side, side)))
    joined = halves[0].copy()
    joined.paste(halves[-1].crop((side // 2, 0, side, side)), (side // 2, 0))
    ImageDraw.Draw(joined).line((side // 2, 0, side // 2, side), fill="white", width=4)
    return joined


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, fill: str, *, room: int = 10**6
) -> None:
    font = ImageFont.load_default(size=size)
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text[:-2].rstrip("… ") + "…"
    draw.text(at, text, fill=fill, font=font)
