"""Terms of a student's own objective, one idea a file; importing the package registers them all.

A new objective is one new file: an ``Objective`` under ``@register("objective")``. It sees the ``LossInputs`` of the
training step, in which there is no teacher, and gives its loss per image, ``(B,)`` in float32.
"""

from kdgen.registry import import_modules

import_modules(__name__, __path__)
