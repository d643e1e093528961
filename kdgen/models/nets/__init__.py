"""kdgen's own nets, one family a file, registered by name; and what is done to nets: folding, inheriting weights."""

from kdgen.models.nets import dncnn, feature_net, ffdnet, generator, mlp, mlp_generator, mlp_vae, student, unet, vae

__all__ = ["dncnn", "feature_net", "ffdnet", "generator", "mlp", "mlp_generator", "mlp_vae", "student", "unet", "vae"]
