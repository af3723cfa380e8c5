"""A streamed batch has the result that one call for the whole batch has, however it arrives and is cut into groups."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.operations import streams
from service.operations.catalogue import CATALOGUE
from tests.clients import ApplicationClient
from tests.service.document import STREAMS
from tests.service.streaming.exchanges import FORM, NPY, AnyArray, exchange, form, npy, split

LAYERS: dict[str, tuple[tuple[int, ...], dict[str, tuple[int, ...]], list[dict[str, Any]]]] = {
    "conv": (
        (6, 5, 4),
        {"weight": (3, 2, 4, 6), "bias": (6,)},
        [{}, {"stride": 2, "padding": "same"}, {"padding": 1, "dilation": 2, "padding_mode": "replicate"}],
    ),
    "conv_transpose": (
        (3, 4, 6),
        {"weight": (3, 2, 4, 6), "bias": (4,)},
        [{}, {"stride": 2}, {"stride": 2, "output_padding": 1}],
    ),
    "pool": (
        (6, 5, 3),
        {},
        [
            {"mode": "max", "kernel_size": 2},
            {"mode": "avg", "kernel_size": 2, "stride": 1},
            {"mode": "lp", "kernel_size": 2, "norm_type": 1},
            {"mode": "max", "kernel_size": 1},
            {"mode": "avg", "output_size": 1},
        ],
    ),
    "unfold": ((6, 5, 3), {}, [{"kernel_size": 2}, {"kernel_size": 3, "padding": 1}]),
    "fold": ((2, 8), {}, [{"output_size": [2, 3], "kernel_size": 2}]),
    "conv_integer": ((6, 5, 4), {"weight": (3, 2, 4, 6)}, [{}, {"padding": 1}]),
    "qlinear_conv": ((6, 5, 4), {"weight": (3, 2, 4, 6)}, [{}, {"stride": 2}]),
}
"""Shape of an image, shapes of the other operands, parameters."""
QLINEAR = {
    "input_scale": np.float32(0.5),
    "input_zero_point": np.uint8(3),
    "weight_scale": np.float32(0.25),
    "weight_zero_point": np.int8(0),
    "output_scale": np.float32(2),
    "output_zero_point": np.uint8(100),
}


def operands_of(name: str, batch: int, seed: int, dtype: str) -> dict[str, AnyArray]:
    image, others, _ = LAYERS[name]
    drawn = np.random.default_rng(seed)
    is_typed = name in ("conv_integer", "qlinear_conv")
    low, high = (0, 9) if is_typed else (-8, 9)
    operands = {other: drawn.integers(low, high, shape) for other, shape in others.items()}
    operands["input"] = drawn.integers(low, high, (batch, *image))
    types = {"input": "uint8", "weight": "int8"} if is_typed else {}
    arrays: dict[str, AnyArray] = {each: array.astype(types.get(each, dtype)) for each, array in operands.items()}
    scalars = {each: np.asarray(value) for each, value in QLINEAR.items()} if name == "qlinear_conv" else {}
    return {**scalars, **arrays}


def test_every_layer_that_can_be_is_streamed() -> None:
    assert sorted(f"/{name}/forward/stream" for name in LAYERS) == sorted(call.path for call in STREAMS)
    assert {entry.name for entry in CATALOGUE} - set(LAYERS) == {"unpool"}  # whose indices are a batch, too


@pytest.mark.parametrize(("name", "parameters"), [(name, each) for name, layer in LAYERS.items() for each in layer[2]])
@settings(deadline=None, max_examples=12)
@given(
    batch=st.integers(0, 7),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", "<f2", "<i4"]),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    group=st.sampled_from([1, 700, 1500, 2**22]),
    duplex=st.booleans(),
    has_length=st.booleans(),
)
def test_the_result_is_that_of_one_call(
    client: ApplicationClient,
    name: str,
    parameters: dict[str, Any],
    batch: int,
    seed: int,
    dtype: str,
    sizes: list[int],
    group: int,
    duplex: bool,
    has_length: bool,
) -> None:
    operands = operands_of(name, batch, seed, dtype)
    operation = next(entry for entry in CATALOGUE if entry.name == name).forward
    native = {each: array.astype(array.dtype.newbyteorder("=")) for each, array in operands.items()}
    (expected,) = operation.results_of(operation.parse_parameters(parameters), native).values()
    texts = {key: str(value).replace(" ", "") for key, value in parameters.items()}
    if duplex:
        texts["duplex"] = "true"
    batch_alone = set(operands) == {"input"}
    body = npy(operands["input"]) if batch_alone else form((key, npy(array)) for key, array in operands.items())
    content_type = NPY if batch_alone else FORM
    call = exchange(
        f"/{name}/forward/stream", urlencode(texts), content_type, split(body, sizes), has_length=has_length
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "GROUP_BYTES", group)
        result = client.call(call).array
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert result.tobytes() == expected.tobytes()


def test_bytes_that_come_one_at_a_time(client: ApplicationClient) -> None:
    operands = operands_of("conv", 2, 1, "<f4")
    body = form([("padding", "same"), *((name, npy(array)) for name, array in operands.items())])
    call = exchange("/conv/forward/stream", "duplex=true", FORM, split(body, [1]))
    operation = CATALOGUE[0].forward
    (expected,) = operation.results_of(operation.parse_parameters({"padding": "same"}), operands).values()
    assert (client.call(call).array == expected).all()


def test_a_result_begins_before_the_batch_has_come(client: ApplicationClient) -> None:
    """And one that is kept begins when it has."""
    body = split(npy(np.ones((64, 64, 64, 4), "<f4")), [2**14])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "GROUP_BYTES", 2**16)
        query = "mode=max&kernel_size=1"
        early = client.call(exchange("/pool/forward/stream", f"{query}&duplex=true", NPY, body))
        late = client.call(exchange("/pool/forward/stream", query, NPY, body))
    assert early.array.shape == late.array.shape
    assert early.received_at_start < len(body) / 4
    assert late.received_at_start >= len(body)
    assert "Convpool-Parameters".lower() in early.headers
