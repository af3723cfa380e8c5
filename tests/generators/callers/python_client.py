"""Calls the service through the client that openapi-python-client makes."""

import json
import sys

from convpool_client import Client
from convpool_client.api.conv import conv_forward, conv_shape
from convpool_client.api.pool import pool_backward
from convpool_client.models import (
    ConvForwardRequest,
    ConvForwardResult,
    ConvShapeRequest,
    ConvShapes,
    DataFormat,
    Dtype,
    FlatTensor,
    Mode,
    PaddingWord,
    PoolBackwardRequest,
    PoolBackwardResult,
    Problem,
    ShapeResponse,
)

client = Client(base_url=sys.argv[1])
flat = FlatTensor(dtype=Dtype.FLOAT64, shape=[1, 1, 1, 1], data=[16777217.0])

conv = conv_forward.sync(
    client=client,
    body=ConvForwardRequest(
        input_=flat,
        weight=[[[[1]]]],
        bias=[0.5],
        data_format=DataFormat.NCHW,
        stride=[1, 1],
        padding=PaddingWord.SAME,
    ),
)
pool = pool_backward.sync(
    client=client,
    body=PoolBackwardRequest(grad_output=[[[[3]]]], input_=[[[[1], [2]], [[4], [3]]]], mode=Mode.MAX, kernel_size=2),
)
shape = conv_shape.sync(
    client=client,
    body=ConvShapeRequest(shapes=ConvShapes(input_=[512, 56, 56, 64], weight=[3, 3, 64, 64]), padding=PaddingWord.SAME),
)
failed = conv_forward.sync(client=client, body=ConvForwardRequest(input_=flat, weight=[[[[1]]]], stride=0))

assert isinstance(conv, ConvForwardResult)
assert isinstance(conv.output, FlatTensor)
assert isinstance(pool, PoolBackwardResult)
assert isinstance(shape, ShapeResponse)
assert isinstance(failed, Problem)
print(
    json.dumps(
        {
            "output": conv.output.data,
            "grad_input": pool.grad_input,
            "multiply_accumulates": shape.multiply_accumulates,
            "problem": [failed.status, failed.errors[0].pointer],
        }
    )
)
