"""Steps that stand for the seconds of a preset, for runs that are to be the same bit for bit."""

from kdgen.recipe import Recipe
from kdgen.types import UserError

STEPS = {
    "denoise": 5000, "gan": 2300, "gan-to-mlp": 2700, "high-to-low": 4400, "vae": 2500, "vae-decoder": 4000,
    "autoencoder": 2500, "diffusion": 800, "diffusion-blocks": 600,
    "consistency": 950, "consistency-distillation": 800, "consistency-adversarial": 400, "distribution-matching": 450,
    "score-identity": 200, "mean-flow": 1100, "progressive": 1250,
    "rectified-flow": 330, "few-steps-baseline": 270,
    "few-steps-control": 330, "small-and-few": 1650, "small-only": 950,
}  # fmt: skip
"""What each preset's seconds were on one thread of a busy AMD EPYC (Zen 4), rounded: counted in whole runs of ``vae``,
``autoencoder``, ``gan-to-mlp`` and ``consistency-distillation``; of the others, the seconds left for training times the
steps a second that ``kdgen plan`` measured. Presets that are not here have not been measured."""


def repeatable(recipe: Recipe) -> Recipe:
    """A recipe whose student is the same bit for bit each time, see ``Recipe.repeatable``.

    One that counts seconds gets the steps that those were for the preset of its name.

    Raises:
        UserError: where it counts seconds and no steps are known for its name.
    """
    steps = recipe.steps or STEPS.get(recipe.name)
    if steps is None:
        raise UserError(f"for {recipe.name} it is not known how many steps its seconds are: give --steps N beside "
                        f"--repeatable; known are {', '.join(sorted(STEPS))}")  # fmt: skip
    return recipe.model_copy(update={"repeatable": True}).lasting(steps=steps)
