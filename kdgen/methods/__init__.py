"""Ways to move knowledge from a teacher to a student, one paper a file; importing the package registers them all.

A new method is one new file: a ``Method`` under ``@register("method")``, and a line here. It sees a ``View`` of the
training step and gives its loss per image, ``(B,)`` in float32; it knows nothing of tasks, optimisers or devices.
"""

from kdgen.methods.adversarial import Adversarial
from kdgen.methods.attention import Attention
from kdgen.methods.blocks import Blocks
from kdgen.methods.channel import Channel
from kdgen.methods.consistency import Consistency
from kdgen.methods.distribution_matching import DistributionMatching
from kdgen.methods.drawn_adversarial import DrawnAdversarial
from kdgen.methods.feature import Feature
from kdgen.methods.gaussian_kl import GaussianKl
from kdgen.methods.gradient import Gradient
from kdgen.methods.jacobian import Jacobian
from kdgen.methods.logits import Logits
from kdgen.methods.mean_flow import MeanFlow
from kdgen.methods.output import Output
from kdgen.methods.perceptual import Perceptual
from kdgen.methods.progressive import Progressive
from kdgen.methods.rectified_flow import RectifiedFlow
from kdgen.methods.relation import Relation
from kdgen.methods.score_identity import ScoreIdentity
from kdgen.methods.upcycling import Upcycling

__all__ = ["Adversarial", "Attention", "Blocks", "Channel", "Consistency", "DistributionMatching", "DrawnAdversarial",
           "Feature", "GaussianKl", "Gradient", "Jacobian", "Logits", "MeanFlow", "Output", "Perceptual", "Progressive",
           "RectifiedFlow", "Relation", "ScoreIdentity", "Upcycling"]  # fmt: skip
