"""What files are that hold no net for images, by how they begin or by the names of their weights."""

import re
from collections.abc import Iterable
from typing import Any

from kdgen.types import Text, text

HEADS = {
    b"GGUF": text("is_gguf", "a GGUF file, as language models are kept"),
    b"\x89HDF": text("is_hdf5", "an HDF5 file, as Keras writes"),
    b"\x89PNG": text("is_picture", "a picture"),
    b"\xff\xd8\xff": text("is_picture", "a picture"),
    b"GIF8": text("is_picture", "a picture"),
    b"%PDF": text("is_document", "a document"),
    b"\x1f\x8b": text("is_compressed", "a compressed archive, to be unpacked"),
    b"BZh": text("is_compressed", "a compressed archive, to be unpacked"),
    b"\xfd7zXZ": text("is_compressed", "a compressed archive, to be unpacked"),
    b"7z\xbc\xaf": text("is_compressed", "a compressed archive, to be unpacked"),
    b"Rar!": text("is_compressed", "a compressed archive, to be unpacked"),
    b"7767517": text("is_ncnn", "a net of ncnn"),
}
"""How files begin, and what they are."""

WEIGHTS = {
    r"(^|[._])(lora|lokr|loha|hada)_|\.lora\.": text(
        "is_lora", "a LoRA, changes to the weights of another model: merge it into that in its own program"),
    r"(^|\.)(exp_avg(_sq)?|momentum_buffer|square_avg)$": text(
        "is_optimizer", "the state of an optimiser, and no weights of a net: name the file that holds these"),
    r"^model\.diffusion_model\.|^first_stage_model\.|^(double|joint)_blocks\.\d": text(
        "is_diffusion", "a diffusion model in one file: name its folder of diffusers, or its id on the Hub"),
    r"(^|[._])(embed_tokens|wte|word_embeddings|token_embd|text_model)\.|attn\.(q_proj|c_attn)\.": text(
        "is_language_model", "a language model or a part of one, which makes no images: name one that does"),
}  # fmt: skip
"""How weights are called, by a pattern, and what they are of."""


def kind_of_file(head: bytes) -> Text | None:
    """What a file is that begins so, where it is known and holds no weights."""
    if head[4:8] == b"TFL3":
        return text("is_tflite", "a net of TFLite")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return text("is_picture", "a picture")
    if known := next((what for start, what in HEADS.items() if head.startswith(start)), None):
        return known
    try:
        words = head.decode("utf-8").rstrip("\ufffd")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character that is cut off at the end
            return None
        words = head[: error.start].decode("utf-8")
    return text("is_text", "a text") if all(each.isprintable() or each in "\r\n\t" for each in words) else None


def kind_of_weights(names: Iterable[str]) -> Text | None:
    """What weights of these names are of, where it is known and nothing that makes images of images."""
    names = list(names)
    return next((what for pattern, what in WEIGHTS.items() if any(re.search(pattern, name) for name in names)), None)


def is_optimizer(data: Any) -> bool:
    """Whether a file holds the state of an optimiser, at its top or one key below."""
    if not isinstance(data, dict):
        return False
    return any(isinstance(each, dict) and "param_groups" in each for each in (data, *data.values()))


__all__ = ["is_optimizer", "kind_of_file", "kind_of_weights"]
