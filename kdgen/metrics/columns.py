"""What figures are called in tables, how they are written, and which way they are better. Each metric says its own."""

from dataclasses import dataclass

from kdgen.types import Text, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A metric as tables show it.

    Attributes:
        title: what it is called.
        shown: how its figures are written, a format of Python.
        lower: whether a lower figure is better.
        same: two figures closer than this are called the same; of those where lower is better this is a share.
    """

    title: Text
    shown: str = "{:.4f}"
    lower: bool = False
    same: float = 0.0


COLUMNS: dict[str, Column] = {}
"""By the name of a metric, or by how the names of several begin: ``fd_`` of distances on any features."""


def column(name: str, title: Text, shown: str = "{:.4f}", *, lower: bool = False, same: float | None = None) -> None:
    """Say how tables show a metric.

    Args:
        name: of the metric; one that ends in ``_`` stands for all that begin with it.
        title: what it is called.
        shown: how its figures are written, a format of Python.
        lower: whether a lower figure is better.
        same: see ``Column``; 3 % where lower is better if not given, else nothing.

    Raises:
        ValueError: if the name is taken.
    """
    if name in COLUMNS:
        raise ValueError(f"a metric called {name!r} has its column already")
    COLUMNS[name] = Column(
        title=title, shown=shown, lower=lower, same=(0.03 if lower else 0.0) if same is None else same
    )


def column_of(metric: str) -> Column:
    """How tables show a metric, whatever stands behind an ``@`` in its name; one that nobody told of by its name."""
    name = metric.partition("@")[0]
    if found := COLUMNS.get(name):
        return found
    family = next((each for key, each in COLUMNS.items() if key.endswith("_") and name.startswith(key)), None)
    title = Text(name)
    if family is None:
        return Column(title=title, shown="{:.4g}")
    return Column(title=title, shown=family.shown, lower=family.lower, same=family.same)


def lower_is_better(metric: str) -> bool:
    """Whether a lower figure of a metric is better."""
    return column_of(metric).lower


column("psnr", text("metric_psnr", "PSNR (dB)"), "{:.2f}", same=0.05)
column("ssim", text("metric_ssim", "SSIM"))
column("psnr_y", text("metric_psnr_y", "PSNR (dB) of luma"), "{:.2f}")
column("ssim_y", text("metric_ssim_y", "SSIM of luma"))
column("sharpness", text("metric_sharpness", "sharpness (gradient energy, 1 = reference's)"), "{:.3f}")
column("perceptual", text("metric_perceptual", "perceptual distance (features32)"), lower=True)
column("saturation", text("metric_saturation", "saturation (share of black and white values, less the reference's)"),
       "{:+.3f}")  # fmt: skip
column("contrast", text("metric_contrast", "contrast (1 = reference's)"), "{:.3f}")
column("diversity_ratio", text("metric_diversity_ratio", "diversity, 1 = reference's"), "{:.3f}")
column("diversity", text("metric_diversity", "diversity"))
column("vendi", text("metric_vendi", "Vendi score"), "{:.2f}")
column("r_precision", text("metric_r_precision", "R-precision (share of the words asked for that are seen)"), "{:.2%}")
column("fid", text("metric_fid", "FID"), "{:.2f}", lower=True)
column("kid", text("metric_kid", "KID"), "{:.5f}", lower=True)
column("fd_", Text("fd"), "{:.4g}", lower=True)
column("kd_", Text("kd"), "{:.4g}", lower=True)
column("latent_error", text("metric_latent_error", "error of the latents, share of the teacher's variance"), "{:.2%}",
       lower=True)  # fmt: skip
column("psnr_teacher_decoder", text("metric_psnr_teacher_decoder", "PSNR (dB) of the teacher's decoder on its latents, "
       "to the teacher"), "{:.2f}")  # fmt: skip
column("psnr_student_decoder", text("metric_psnr_student_decoder", "PSNR (dB) of its decoder on the teacher's latents, "
       "to the teacher"), "{:.2f}")  # fmt: skip
