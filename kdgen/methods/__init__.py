"""Ways to move knowledge from a teacher to a student, one paper a file; importing the package registers them all.

A new method is one new file: a ``Method`` under ``@register("method")``, and a line here. It sees a ``View`` of the
training step and gives its loss per image, ``(B,)`` in float32; it knows nothing of tasks, optimisers or devices.
"""

from kdgen.methods.attention import Attention
from kdgen.methods.feature import Feature
from kdgen.methods.gradient import Gradient
from kdgen.methods.jacobian import Jacobian
from kdgen.methods.output import Output
from kdgen.methods.relation import Relation
from kdgen.methods.upcycling import Upcycling

__all__ = ["Attention", "Feature", "Gradient", "Jacobian", "Output", "Relation", "Upcycling"]
