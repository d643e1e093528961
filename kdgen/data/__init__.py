"""Where images come from: procedural dead leaves, a folder, arrays, a few bundled photographs, or a mixture."""

from kdgen.data.arrays import Arrays
from kdgen.data.augment import NUM_DIHEDRAL, dihedral, inverse
from kdgen.data.dead_leaves import DeadLeaves
from kdgen.data.folder import Folder, read_picture
from kdgen.data.mixture import Mixture
from kdgen.data.photographs import Photographs
from kdgen.data.pictures import Picture, Pictures, to_tensor
from kdgen.data.seed import derive, generator
from kdgen.data.source import Gallery, Images, make_images

__all__ = ["NUM_DIHEDRAL", "Arrays", "DeadLeaves", "Folder", "Gallery", "Images", "Mixture", "Photographs",
           "Picture", "Pictures", "derive", "dihedral", "generator", "inverse", "make_images", "read_picture",
           "to_tensor"]  # fmt: skip
