"""Calls the service through the Python client that openapi-generator makes."""

import json
import sys

from openapi_client import (
    ApiClient,
    ApiException,
    Configuration,
    ConvApi,
    ConvForwardRequest,
    ConvShapeRequest,
    ConvShapes,
    DataFormat,
    Dtype,
    FlatTensor,
    KernelSize,
    Mode,
    Padding,
    PaddingWord,
    PoolApi,
    PoolBackwardRequest,
    Problem,
    Stride,
    Tensor,
)

client = ApiClient(Configuration(host=sys.argv[1]))
flat = Tensor(FlatTensor(dtype=Dtype.FLOAT64, shape=[1, 1, 1, 1], data=[16777217.0]))
weight, same = Tensor([[[[1]]]]), Padding(PaddingWord.SAME)

conv = ConvApi(client).conv_forward(
    ConvForwardRequest(
        input=flat,
        weight=weight,
        bias=Tensor([0.5]),
        data_format=DataFormat.NCHW,
        stride=Stride([1, 1]),
        padding=same,
    )
)
pool = PoolApi(client).pool_backward(
    PoolBackwardRequest(
        grad_output=Tensor([[[[3]]]]),
        input=Tensor([[[[1], [2]], [[4], [3]]]]),
        mode=Mode.MAX,
        kernel_size=KernelSize(2),
    )
)
shape = ConvApi(client).conv_shape(
    ConvShapeRequest(shapes=ConvShapes(input=[512, 56, 56, 64], weight=[3, 3, 64, 64]), padding=same)
)
try:  # the client itself refuses a stride of 0
    ConvApi(client).conv_forward(ConvForwardRequest(input=flat, weight=weight, stride=Stride([1, 1, 1])))
except ApiException as error:
    problem = error.data

assert isinstance(conv.output.actual_instance, FlatTensor)
assert isinstance(problem, Problem)
print(
    json.dumps(
        {
            "output": conv.output.actual_instance.data,
            "grad_input": pool.grad_input.actual_instance,
            "multiply_accumulates": shape.multiply_accumulates,
            "problem": [problem.status, problem.errors[0].pointer],
        }
    )
)
