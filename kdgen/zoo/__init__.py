"""kdgen's own nets, one family a file, registered by name; and what is done to nets: folding, inheriting weights."""

from kdgen.zoo import dncnn, ffdnet, mlp, student, unet

__all__ = ["dncnn", "ffdnet", "mlp", "student", "unet"]
