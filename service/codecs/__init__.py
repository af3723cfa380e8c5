"""Payload formats: bytes in, tensors and parameters out, and back. They know nothing of the operations.

A further format is a module with a codec, one line in CODECS, and its example in ``service.documentation.examples``.
"""

from service.codecs.json import JsonCodec
from service.codecs.message import Buffer, Codec, Decoded, Limits
from service.codecs.multipart import MultipartCodec
from service.codecs.npy import NpyCodec
from service.codecs.npz import NpzCodec

__all__ = ["CODECS", "Buffer", "Codec", "Decoded", "Limits"]

CODECS: dict[str, Codec] = {
    codec.media_type: codec for codec in (JsonCodec(), NpyCodec(), NpzCodec(), MultipartCodec())
}
