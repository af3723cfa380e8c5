"""Payload formats: bytes in, tensors and parameters out, and back. They know nothing of the operations.

A new format is a subclass of ``Codec``, which says everything about itself, and one entry in CODECS.
"""

from .codec import Codec, Writer
from .json import JsonCodec
from .message import Body, Buffer, Decoded, Encoded, Limits, RequestContext, ResponseContext
from .multipart import MultipartCodec
from .npy import NpyCodec
from .npz import NpzCodec
from .safetensors import SafetensorsCodec

__all__ = [
    "CODECS",
    "JSON_CODEC",
    "Body",
    "Buffer",
    "Codec",
    "Decoded",
    "Encoded",
    "Limits",
    "RequestContext",
    "ResponseContext",
    "Writer",
]

JSON_CODEC = JsonCodec()
"""The format of what is not a tensor, too: the shape calls, /ops and the health checks."""

CODECS: dict[str, Codec] = {
    codec.media_type: codec for codec in (JSON_CODEC, NpyCodec(), NpzCodec(), SafetensorsCodec(), MultipartCodec())
}
"""The formats by media type, in the order in which the documentation has them."""
