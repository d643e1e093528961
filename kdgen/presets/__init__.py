"""Recipes that come with kdgen. A preset is a function that returns a Recipe; its docstring is its summary.

A new preset is one function under ``@register("preset")`` in the file of its family.
"""

from kdgen.recipe import Recipe
from kdgen.registry import get, import_modules


def preset(name: str) -> Recipe:
    """The recipe of a preset, its words joined by ``-`` or ``_``.

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    recipe: Recipe = get("preset", name.replace("-", "_"))()
    return recipe


import_modules(__name__, __path__)
