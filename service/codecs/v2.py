"""The Open Inference Protocol (V2), REST with the binary tensor data extension, as Triton and KServe speak it.

A body is JSON, or JSON and after it the bytes of the tensors that are binary; the header
``Inference-Header-Content-Length`` then says how long the JSON is. It is not among ``CODECS``, as the protocol has no
media type of its own: its routes are under /v2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from numpy.typing import NDArray

from ..problems import Finding, InvalidRequest, TooLarge, UnreadablePayload
from .buffers import tensor_bytes
from .codec import Codec
from .described import as_text
from .json_objects import Unreadable, reading_memory, refuse_unreadable, text_memory
from .media_types import JSON, OCTET_STREAM
from .message import Body, Buffer, Decoded, Encoded, Limits, RequestContext, ResponseContext, TensorType
from .names import joined, pointer_to
from .text import NOT_GIVEN, parse_text_parameters
from .v2_envelope import InferRequest, RequestedOutput, Tensor, parse_request, parsed_parameters, refuse_unknown
from .v2_tensors import (
    NAMES,
    BinaryData,
    json_text,
    longest_json,
    read_json,
    require_datatype,
    require_json,
    require_sizes,
)

__all__ = ["HEADER_LENGTH", "MODEL_VERSION", "V2BinaryCodec", "V2Codec"]

HEADER_LENGTH = "Inference-Header-Content-Length"
MODEL_VERSION = "1"

BINARY_SIZE = "binary_data_size"
BINARY_OUTPUT = "binary_data"
BINARY_OUTPUTS = "binary_data_output"
RESERVED = {
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "headers",
    "content_type",
    BINARY_OUTPUTS,
}
RESERVED_PREFIX = "triton_"
"""Parameters of a request that belong to the server or to a client's library, not to the operation."""

RAW_MODE = "0"


class V2Codec(Codec):
    """Requests of one operation in JSON alone, and responses to them.

    Parameters
    ----------
    results : mapping of str to mapping
        The results that the operation may have and, for each, the parameters by which it is asked for, such as
        ``{"grad_weight": {"wrt": ["weight"]}}``.
    max_json_bytes : int
        Maximum size of the JSON.
    """

    media_type: ClassVar[str] = JSON
    title: ClassVar[str] = "the Open Inference Protocol"
    charset: ClassVar[str] = "utf-8"
    parameters_in: ClassVar[str] = "in the request's parameters"
    compressible: ClassVar[bool] = True

    def __init__(self, results: Mapping[str, Mapping[str, Any]], max_json_bytes: int) -> None:
        self._results = results
        self._max_json_bytes = max_json_bytes

    def decode_memory(self, size: int) -> int:
        """Return an estimate, as ``JsonCodec.decode_memory`` does."""
        return text_memory(size)

    def decode(self, body: Body, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        length = self._json_length(body, request.headers.get(HEADER_LENGTH))
        text = memoryview(body)[:length]
        limits.charge(reading_memory(length))
        try:
            content = parse_request(text)
            parameters, is_binary = _parameters(content, limits)
            outputs = self._outputs(content.outputs or [], limits, is_binary=is_binary)
            tensors = _tensors(content.inputs, body, length, request.operands, limits)
        except Unreadable:
            refuse_unreadable(text, limits)
        options = {"id": content.id, "outputs": outputs, "is_binary": is_binary}
        return Decoded(tensors, self._asking_for(outputs, parameters), options)

    def _json_length(self, body: Body, header: str | None) -> int:
        """Return the size of the JSON that a body begins with."""
        if header is None:
            length = len(body)
        elif header.strip() == RAW_MODE:
            fault = f"{HEADER_LENGTH} is 0, which means raw binary data without JSON"
            expected = "JSON with the names, shapes and datatypes of the inputs before their bytes"
            hint = "raw data are for models with one input of a known shape"
            raise UnreadablePayload.of("", fault, got="no JSON", expected=expected, hint=hint)
        elif not (header.isascii() and header.isdigit() and len(header) < 20 and int(header) <= len(body)):
            fault = f"{HEADER_LENGTH} is not the size of the JSON in this body"
            expected = f"the bytes of the JSON, which the body of {len(body)} bytes begins with"
            raise UnreadablePayload.of("", fault, got="another number or none", expected=expected)
        else:
            length = int(header)
        if length > self._max_json_bytes:
            fault, expected = "the JSON is larger than this server allows", f"at most {self._max_json_bytes} bytes"
            hint = "tensors in binary may be larger"
            raise TooLarge.of("", fault, got=f"{length} bytes", expected=expected, hint=hint)
        return length

    def _outputs(self, requested: Sequence[RequestedOutput], limits: Limits, *, is_binary: bool) -> dict[str, bool]:
        """Return the outputs that are asked for, in their order, and whether each is to be binary."""
        outputs: dict[str, bool] = {}
        for output in requested:
            if output.name not in self._results:
                fault, expected = "an output is asked for that the model does not have", joined([*self._results])
                got = pointer_to(output.name).removeprefix("/") or "another output"
                raise InvalidRequest.of(pointer_to(output.name), fault, got=got, expected=expected)
            if output.name in outputs:
                fault = f"{output.name} is asked for more than once"
                raise InvalidRequest.of(f"/{output.name}", fault, got="two outputs", expected="one output")
            parameters = parsed_parameters(output.parameters, f"/{output.name}", limits)
            refuse_unknown(parameters, (BINARY_OUTPUT,), f"/{output.name}")
            outputs[output.name] = _flag(parameters, BINARY_OUTPUT, f"/{output.name}", default=is_binary)
        return outputs

    def _asking_for(self, outputs: Mapping[str, bool], parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with those that the outputs imply."""
        implied: dict[str, Any] = {}
        for output in outputs:
            for name, value in self._results[output].items():
                given = parameters.get(name)
                if given is not None and not _agrees(given, value):
                    fault = f"the output {output} is asked for, but {name} leaves it out"
                    expected = f"{name} with {as_text(value)}, or no {name}"
                    raise InvalidRequest.of(f"/{name}", fault, got=f"another {name}", expected=expected)
                implied[name] = [*implied.get(name, []), *value] if isinstance(value, list) else value
        return {**parameters, **implied}

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:  # noqa: D102
        flags = options["outputs"].values() or [options["is_binary"]]
        return 0 if all(flags) else sum(map(longest_json, results))

    def encode(self, results: Mapping[str, NDArray[Any]], response: ResponseContext) -> Encoded:  # noqa: D102
        options = response.options
        asked = options["outputs"] or dict.fromkeys(results, options["is_binary"])
        envelope = {
            "model_name": response.operation,
            "model_version": MODEL_VERSION,
            **({} if options["id"] is None else {"id": options["id"]}),
            "parameters": {name: as_text(value) for name, value in response.parameters.items()},
        }
        text: list[Buffer] = [orjson.dumps(envelope)[:-1], b',"outputs":[']
        binary: list[Buffer] = []
        for index, (name, is_binary) in enumerate(asked.items()):
            result = results[name]
            tensor: dict[str, Any] = {"name": name, "shape": result.shape, "datatype": NAMES[result.dtype]}
            text.append(b"," if index else b"")
            if is_binary:
                tensor["parameters"] = {BINARY_SIZE: result.nbytes}
                text.append(orjson.dumps(tensor))
                binary.append(tensor_bytes(result))
            else:
                require_json(name, result)
                text += [orjson.dumps(tensor)[:-1], b',"data":', *json_text(result), b"}"]
        text.append(b"]}")
        if not binary:
            return Encoded(text)
        headers = {HEADER_LENGTH: str(sum(map(len, text))), "Content-Type": OCTET_STREAM}
        return Encoded([b"".join(text), *binary], headers)


class V2BinaryCodec(V2Codec):
    """Requests of one operation that have bytes after their JSON, which are no text, and responses to them."""

    charset: ClassVar[str] = ""
    reads_views: ClassVar[bool] = True

    def decode_memory(self, size: int) -> int:
        """Return 0: most of such a body is binary. The numbers in its JSON are charged once they are counted."""
        return 0


def _tensors(
    inputs: Sequence[Tensor], body: Body, length: int, operands: Sequence[str], limits: Limits
) -> dict[str, NDArray[Any]]:
    """Return the tensors; to be called once everything else in the JSON has been read."""
    sizes = [_binary_size(tensor, limits) for tensor in inputs]
    require_sizes((size for size in sizes if size is not None), len(body) - length)
    binary: BinaryData | None = None
    tensors: dict[str, NDArray[Any]] = {}
    findings: list[Finding] = []
    # those in JSON first, as the others may be moved over the end of it
    for tensor, size in sorted(zip(inputs, sizes, strict=True), key=lambda pair: pair[1] is not None):
        try:
            if tensor.name not in operands:
                fault, expected = "an input is given that the model does not have", joined(operands)
                got = pointer_to(tensor.name).removeprefix("/") or "another input"
                hint = "parameters go in the request's parameters"
                raise InvalidRequest.of(pointer_to(tensor.name), fault, got=got, expected=expected, hint=hint)
            if tensor.name in tensors:
                fault = f"{tensor.name} is given more than once"
                raise InvalidRequest.of(f"/{tensor.name}", fault, got="two inputs", expected="one input")
            dtype, shape = require_datatype(tensor.name, tensor.datatype), tuple(tensor.shape)
            if size is None:
                tensors[tensor.name] = read_json(tensor.name, tensor.data, dtype, shape, limits)
            else:
                binary = binary or BinaryData(body, length)
                tensors[tensor.name] = binary.take(tensor.name, size, dtype, shape, limits)
        except InvalidRequest as problem:
            findings.extend(problem.findings)
    if findings:
        raise InvalidRequest(*findings)
    return tensors


def _binary_size(tensor: Tensor, limits: Limits) -> int | None:
    """Return the size of an input's bytes after the JSON; None if it has its data in JSON."""
    parameters = parsed_parameters(tensor.parameters, pointer_to(tensor.name), limits)
    size = parameters.get(BINARY_SIZE)
    data = memoryview(tensor.data)
    has_data = len(data) > 0 and data[:5].tobytes() != b"null"  # KServe's client writes null with no bytes
    if len(parameters) > (size is not None):
        refuse_unknown(parameters, (BINARY_SIZE,), pointer_to(tensor.name))
    if (size is None) != has_data:
        fault = "an input has no data, or has them both in JSON and as bytes"
        got, expected = "both" if has_data else "neither", f"either data, or parameters with {BINARY_SIZE}"
        raise InvalidRequest.of(pointer_to(tensor.name), fault, got=got, expected=expected)
    if size is not None and (type(size) is not int or size < 0):
        fault, expected = f"{BINARY_SIZE} is not a size", "an integer >= 0, in bytes"
        raise InvalidRequest.of(pointer_to(tensor.name), fault, got="another value", expected=expected)
    return size


def _parameters(content: InferRequest, limits: Limits) -> tuple[dict[str, Any], bool]:
    """Return the operation's parameters, and whether outputs are to be binary unless they say otherwise."""
    given = parsed_parameters(content.parameters, "", limits)
    own = {name: value for name, value in given.items() if not _is_reserved(name)}
    texts = parse_text_parameters([(name, value) for name, value in own.items() if isinstance(value, str)])
    return {**own, **texts}, _flag(given, BINARY_OUTPUTS, "", default=False)


def _is_reserved(name: str) -> bool:
    return name in RESERVED or name.startswith(RESERVED_PREFIX)


def _flag(parameters: Mapping[str, Any], name: str, pointer: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InvalidRequest.of(pointer, f"{name} is not a boolean", got="another value", expected="true or false")
    return value


def _agrees(given: Any, implied: Any) -> bool:
    """Return whether a parameter that is given does not exclude what an output implies."""
    if given is NOT_GIVEN:
        return True
    if isinstance(implied, list):
        chosen = given if isinstance(given, list) else [given]
        return all(each in chosen for each in implied)
    return bool(given == implied)
