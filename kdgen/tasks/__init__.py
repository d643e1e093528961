"""One file a task: where batches come from, what the ground truth is, how a result is measured."""

from kdgen.registry import import_modules
from kdgen.tasks.autoencode import Autoencode
from kdgen.tasks.classify import Classify
from kdgen.tasks.decode import Decode
from kdgen.tasks.denoise import Denoise
from kdgen.tasks.diffuse import Diffuse
from kdgen.tasks.encode import Encode
from kdgen.tasks.few_steps import FewSteps
from kdgen.tasks.generate import Generate
from kdgen.tasks.harden import Harden
from kdgen.tasks.restore import Restore
from kdgen.tasks.rollouts import Rollouts
from kdgen.tasks.samples import Samples
from kdgen.tasks.segment import Segment
from kdgen.tasks.translate import Translate
from kdgen.tasks.views import Views

__all__ = ["Autoencode", "Classify", "Decode", "Denoise", "Diffuse", "Encode", "FewSteps", "Generate", "Harden",
           "Restore", "Rollouts", "Samples", "Segment", "Translate", "Views"]  # fmt: skip

import_modules(__name__, __path__)
