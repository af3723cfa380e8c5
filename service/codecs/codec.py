"""What a payload format is: a codec, which says everything about itself.

Routes, negotiation, limits, examples, /openapi.json and /ops ask the codecs in ``service.codecs.CODECS``, and know no
media type themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .described import BINARY, DescribedOperation, ExampleFile, command
from .media_types import JSON
from .message import Body, Decoded, Encoded, Limits, RequestContext, ResponseContext, TensorType

__all__ = ["Codec", "Writer"]


class Writer:
    """How a response is written.

    Attributes
    ----------
    media_type : str
        What Content-Type and Accept call it.
    title : str
        What the documentation and the errors call it.
    charset : str
        The one charset of a text format; empty for a binary format. Bodies in text have a size limit of their own,
        because they take several times their size in memory.
    compressible : bool
        Whether a response is compressed for a client that asks for it: random numbers shrink as text, hardly as bytes.
    """

    media_type: ClassVar[str]
    title: ClassVar[str]
    charset: ClassVar[str] = ""
    compressible: ClassVar[bool] = False

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:
        """Return the bytes that a response takes in addition to its results: none where their own memory is sent.

        Parameters
        ----------
        results : sequence of TensorType
        options : mapping of str to object
            The ``response_options`` of the decoded request.
        """
        return 0

    def encode(self, results: Any, response: ResponseContext) -> Encoded:
        """Encode what a task computed.

        Parameters
        ----------
        results : object
            For an operation, which every codec can write: its results, a mapping of str to ndarray.
        response : ResponseContext

        Raises
        ------
        InvalidRequest
            If the format cannot hold the results.
        """
        raise TypeError(f"{self.media_type} is not a response format")


class Codec(Writer, ABC):
    """A payload format: how a request is read, how a response is written, and what the documentation says of both.

    A new format is a subclass and one entry in ``service.codecs.CODECS``. It must define ``media_type``, ``title`` and
    ``decode``, and ``encode`` unless it is for requests only; everything else has a default, which suits a binary file
    with all operands, and the parameters in the query string.

    Attributes
    ----------
    aliases : tuple of str
        Other media types by which a Content-Type may call it.
    parameters_in : str
        Where a body holds parameters, in words that follow "parameters go"; empty if they go in the query string only.
    extension : str
        File name extension of its example.
    limitation : str
        Why ``can_read`` refuses an operation, in words that follow "this format".
    responds_in_kind : bool
        Whether a request in this format gets a response in this format if there is no Accept header.
    reads_views : bool
        Whether ``decode`` takes a memoryview for a body, too, which is faster to receive; else it gets a bytearray.
    preference : int
        Among formats that are equally acceptable for a response, the one with the highest preference is written.
    """

    aliases: ClassVar[tuple[str, ...]] = ()
    parameters_in: ClassVar[str] = ""
    extension: ClassVar[str] = "bin"
    limitation: ClassVar[str] = ""
    responds_in_kind: ClassVar[bool] = True
    reads_views: ClassVar[bool] = False
    preference: ClassVar[int] = 0

    def can_read(self, operands: int, *, typed: bool) -> bool:
        """Return whether a request can hold the operands of an operation.

        Parameters
        ----------
        operands : int
            The number of those that are required.
        typed : bool
            Whether some have types of their own, such as int8, which the format must then be able to name.
        """
        return True

    def can_write(self, results: int) -> bool:
        """Return whether a response can hold so many results."""
        return True

    @abstractmethod
    def decode(self, body: Body, request: RequestContext, limits: Limits) -> Decoded:
        """Decode a request body.

        Parameters
        ----------
        body : bytearray, or memoryview where ``reads_views``
            The whole body. Tensors may be views of it, and what lies badly may be moved within it: it is decoded once,
            unless it is smaller than ``buffers.COPIED_BYTES``.
        request : RequestContext
            The names of the operands, and the headers.
        limits : Limits
            Limits that the memory of decoding is charged to, before it is allocated: all that is not in the body.

        Raises
        ------
        UnreadablePayload, InvalidRequest, TooLarge
        """

    def decode_memory(self, size: int) -> int:
        """Return the bytes that decoding takes in addition to a body of a size, as far as the size tells.

        It is to be reserved before a body is received, and an estimate for JSON; for the formats whose tensors are
        views of the body, it is 0. ``decode`` charges what a body really takes, which may be more: for JSON with short
        numbers, for the deflated members of an npz, whose size is in its directory, and for tensors that must be
        copied because of the order of their axes or of where they lie.
        """
        return 0

    # --------------------------------------------------------------------------------------------------- documentation

    def encode_example(self, operation: DescribedOperation) -> Encoded:
        """Encode the request that is an operation's example: by default, as a response that holds its operands."""
        return self.encode(operation.example_operands, ResponseContext(parameters=operation.example_parameters))

    def example_files(self, operation: DescribedOperation) -> dict[str, ExampleFile]:
        """Return the files, by name, that an operation's example is sent with."""
        body = self.encode_example(operation).buffers
        return {f"request.{self.extension}": ExampleFile(body, self.media_type)}

    def curl_command(self, operation: DescribedOperation) -> str:
        """Return a command for bash that runs an operation's example: by default, one that sends its file."""
        (file,) = self.example_files(operation)
        headers = {"Content-Type": self.media_type, "Accept": JSON, **self.encode_example(operation).headers}
        return command(
            f"curl -s {operation.files_url}/{file} |",
            f"curl -s {operation.url if self.parameters_in else operation.url_with_parameters}",
            " ".join(f"-H '{name}: {value}'" for name, value in headers.items()),
            "--data-binary @-",
        )

    def request_content(self, operation: DescribedOperation) -> dict[str, Any]:
        """Return OpenAPI's media type object of a request: schema and, where it can have one, example.

        What has a title becomes a component of that name, and a type of it in a generated client: an object should
        have one, which begins with that of the operation.
        """
        return {"schema": BINARY}

    def response_content(self, operation: DescribedOperation) -> dict[str, Any]:
        """Return OpenAPI's media type object of a response, as ``request_content`` that of a request."""
        return {"schema": BINARY}
