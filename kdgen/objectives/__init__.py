"""Terms of a student's own objective, one idea a file; importing the package registers them all.

A new objective is one new file: an ``Objective`` under ``@register("objective")``, and a line here. It sees a
``LossInputs`` of the training step, in which there is no teacher, and gives its loss per image, ``(B,)`` in float32.
"""

from kdgen.objectives.adversarial import Adversarial
from kdgen.objectives.diversity import Diversity
from kdgen.objectives.kl import Kl
from kdgen.objectives.sharpness import Sharpness

__all__ = ["Adversarial", "Diversity", "Kl", "Sharpness"]
