"""Where images come from: procedural dead leaves, a folder, IDX files, arrays, bundled photographs, or a mixture."""

from kdgen.data.arrays import Arrays
from kdgen.data.augment import NUM_DIHEDRAL, dihedral, inverse
from kdgen.data.dead_leaves import DeadLeaves
from kdgen.data.folder import Folder, read_picture
from kdgen.data.idx import Idx, read_idx
from kdgen.data.jitter import LIGHT, STRONG, Jitter, make_jitter
from kdgen.data.labelled import Labelled, is_labelled
from kdgen.data.mixture import Mixture
from kdgen.data.photographs import Photographs
from kdgen.data.pictures import Pictures, to_tensor
from kdgen.data.seed import derive, generator
from kdgen.data.source import Gallery, Images, make_images
from kdgen.data.whole import border, framed
from kdgen.pixels import Picture

__all__ = ["LIGHT", "NUM_DIHEDRAL", "STRONG", "Arrays", "DeadLeaves", "Folder", "Gallery", "Idx", "Images", "Jitter",
           "Labelled", "Mixture", "Photographs", "Picture", "Pictures", "border", "derive", "dihedral", "framed",
           "generator", "inverse", "is_labelled", "make_images", "make_jitter", "read_idx", "read_picture",
           "to_tensor"]  # fmt: skip
