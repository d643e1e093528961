"""Ways to move knowledge from a teacher to a student, one paper a file; importing the package registers them all.

A new method is one new file: a ``Method`` under ``@register("method")``. It sees a ``DistillationInputs`` of the
training step and gives its loss per image, ``(B,)`` in float32; it knows nothing of tasks, optimisers or devices.
"""

from kdgen.registry import import_modules

import_modules(__name__, __path__)
