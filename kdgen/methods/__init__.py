"""Ways to move knowledge from a teacher to a student, one paper a file; importing the package registers them all.

A new method is one new file: a ``Method`` under ``@register("method")``, and a line here. It sees a
``DistillationInputs`` of the training step and gives its loss per image, ``(B,)`` in float32; it knows nothing of
tasks, optimisers or devices.
"""

from kdgen.methods.adversarial.adversarial import Adversarial
from kdgen.methods.adversarial.drawn_adversarial import DrawnAdversarial
from kdgen.methods.features.attention import Attention
from kdgen.methods.features.blocks import Blocks
from kdgen.methods.features.channel import Channel
from kdgen.methods.features.feature import Feature
from kdgen.methods.features.relation import Relation
from kdgen.methods.few_step.consistency import Consistency
from kdgen.methods.few_step.distribution_matching import DistributionMatching
from kdgen.methods.few_step.mean_flow import MeanFlow
from kdgen.methods.few_step.progressive import Progressive
from kdgen.methods.few_step.rectified_flow import RectifiedFlow
from kdgen.methods.few_step.score_identity import ScoreIdentity
from kdgen.methods.outputs.gaussian_kl import GaussianKl
from kdgen.methods.outputs.gradient import Gradient
from kdgen.methods.outputs.jacobian import Jacobian
from kdgen.methods.outputs.logits import Logits
from kdgen.methods.outputs.output import Output
from kdgen.methods.outputs.perceptual import Perceptual
from kdgen.methods.outputs.upcycling import Upcycling

__all__ = ["Adversarial", "Attention", "Blocks", "Channel", "Consistency", "DistributionMatching", "DrawnAdversarial",
           "Feature", "GaussianKl", "Gradient", "Jacobian", "Logits", "MeanFlow", "Output", "Perceptual", "Progressive",
           "RectifiedFlow", "Relation", "ScoreIdentity", "Upcycling"]  # fmt: skip
