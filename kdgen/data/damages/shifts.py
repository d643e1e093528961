"""The standard ways in which what a net meets differs from what it was trained on, each in five severities.

Those of CIFAR-10-C, Hendrycks and Dietterich 2019, arXiv 1903.12261, that kdgen has damages for; their strengths are
those of the paper's published code for small images.
"""

from kdgen.registry import Spec

SHIFTS: tuple[tuple[Spec, ...], ...] = (
    tuple(Spec(name="noise", args={"sigma": round(255 * std, 2)}) for std in (0.04, 0.06, 0.08, 0.09, 0.10)),
    tuple(Spec(name="blur", args={"radius": radius}) for radius in (0.4, 0.6, 0.7, 0.8, 1.0)),
    tuple(Spec(name="jpeg", args={"quality": quality}) for quality in (80, 65, 58, 50, 40)),
    tuple(Spec(name="contrast", args={"factor": factor}) for factor in (0.75, 0.5, 0.4, 0.3, 0.15)),
)
"""For each shift its damage at severity 1 to 5, the mildest first; all five have the same name."""
