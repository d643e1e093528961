"""The looks of the page: one accent colour, system fonts and fonts that Gradio carries, much white."""

import base64
from collections.abc import Sequence
from pathlib import Path

from gradio.themes import Base
from gradio.themes.utils import colors, sizes
from gradio.themes.utils.fonts import Font, LocalFont

from kdgen.ui.choices import KINDS
from kdgen.ui.shelves import card

HERE = Path(__file__).parent
ACCENT = colors.Color("#f0fdfa", "#ccfbf1", "#99f6e4", "#5eead4", "#2dd4bf", "#14b8a6", "#0d9488", "#0f766e", "#115e59",
                      "#134e4a", "#042f2e", name="kdgen")  # fmt: skip


def theme() -> Base:
    """The theme."""
    fallbacks = ("system-ui", "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", "sans-serif")
    looks = Base(
        primary_hue=ACCENT,
        neutral_hue=colors.slate,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_lg,
        text_size=sizes.text_md,
        font=(LocalFont("IBM Plex Sans", weights=(400, 700)), *(Font(name) for name in fallbacks)),
        font_mono=(LocalFont("IBM Plex Mono", weights=(400,)), Font("ui-monospace"), Font("monospace")),
    )
    return looks.set(
        body_background_fill="#f8fafc",
        body_background_fill_dark="#0b1120",
        body_text_color_subdued="#475569",
        body_text_color_subdued_dark="#a3b1c6",
        block_background_fill="white",
        block_background_fill_dark="#131c2e",
        block_border_width="0px",
        block_info_text_color="#475569",
        block_info_text_color_dark="#a3b1c6",
        block_label_text_color="#334155",
        block_label_text_color_dark="#cbd5e1",
        block_label_background_fill="transparent",
        block_title_text_weight="600",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#2dd4bf",
        button_primary_background_fill_hover_dark="#5eead4",
        button_primary_text_color="white",
        button_primary_text_color_dark="#042f2e",
        checkbox_border_color="#64748b",
        checkbox_border_color_dark="#94a3b8",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#2dd4bf",
        checkbox_label_background_fill_selected="#ccfbf1",
        checkbox_label_background_fill_selected_dark="#134e4a",
        checkbox_label_text_color_selected="#134e4a",
        checkbox_label_text_color_selected_dark="#f0fdfa",
        input_background_fill="#f8fafc",
        input_background_fill_dark="#0b1120",
        input_border_color="#94a3b8",
        input_border_color_dark="#475569",
        input_border_width="1px",
        slider_color="#0f766e",
        slider_color_dark="#2dd4bf",
    )


def css() -> str:
    """The page's own rules, and the pictures of the cards within them."""
    cards = backgrounds("kd-kinds", [inline(card(kind)) for kind in KINDS])
    return "\n".join(
        [*((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "setup.css", "heard.css")), cards]
    )


def backgrounds(id: str, addresses: Sequence[str]) -> str:
    """Rules that give each choice of a group its picture.

    Args:
        id: of the group.
        addresses: of the pictures, in the order of the choices.
    """
    return "\n".join(f"#{id} label:nth-of-type({number})::before {{ background-image: url({address}); }}"
                     for number, address in enumerate(addresses, start=1))  # fmt: skip


def inline(path: str | Path) -> str:
    """A WebP file as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


HEAD = """
<script src="kdgen/setup.js"></script>
<meta name="description" content="Distill image generators and denoisers in the browser.">
<script src="kdgen/page.js" defer></script>
<script src="kdgen/browser_student.js" type="module"></script>
<style>
body:not(:has(.kd-brand))::before {
  content: "kdgen"; display: block; padding: 18vh 0 0; text-align: center; color: #0f766e;
  font: 600 2.4rem system-ui, sans-serif;
}
@media (prefers-color-scheme: dark) { body:not(:has(.kd-brand))::before { color: #2dd4bf; } }
</style>
"""
"""Shown while the page loads."""

STATIC = HERE / "static"
"""Scripts of the page. `setup.js`: the controls; `page.js`: before and after by dragging, what is read out, the title
of the tab, the notice at the end of a run; `browser_student.js`: a student on the visitor's own device."""
