"""Where images come from: procedural, folders, labels, maps, captions, pairs, IDX, arrays, photographs, mixtures."""

from kdgen.data.aligned import Aligned
from kdgen.data.arrays import Arrays
from kdgen.data.augment import NUM_DIHEDRAL, dihedral, inverse
from kdgen.data.captioned import Captioned
from kdgen.data.dead_leaves import DeadLeaves
from kdgen.data.folder import Folder, read_picture
from kdgen.data.idx import Idx, read_idx
from kdgen.data.image_folder import ImageFolder
from kdgen.data.jitter import LIGHT, STRONG, Jitter, make_jitter
from kdgen.data.label_maps import LabelMaps
from kdgen.data.labelled import Labelled, is_labelled
from kdgen.data.mixture import Mixture
from kdgen.data.npz import Npz
from kdgen.data.pairs import Pairs
from kdgen.data.photographs import Photographs
from kdgen.data.pictures import Pictures, to_tensor
from kdgen.data.scenes import Scenes
from kdgen.data.source import Gallery, Images, make_images
from kdgen.data.whole import border, framed
from kdgen.registry import import_modules
from kdgen.utils.image_io import Picture
from kdgen.utils.seed import derive, generator, shuffled

__all__ = ["LIGHT", "NUM_DIHEDRAL", "STRONG", "Aligned", "Arrays", "Captioned", "DeadLeaves", "Folder", "Gallery",
           "Idx", "ImageFolder", "Images", "Jitter", "LabelMaps", "Labelled", "Mixture", "Npz", "Pairs", "Photographs",
           "Picture", "Pictures", "Scenes", "border", "derive", "dihedral", "framed", "generator", "inverse",
           "is_labelled", "make_images", "make_jitter", "read_idx", "read_picture", "shuffled",
           "to_tensor"]  # fmt: skip

import_modules(__name__, __path__)
