"""Real input: a small network learns scikit-learn's handwritten digits, each layer computed by the service."""

import io

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from tests.clients import ApplicationClient

Array = NDArray[np.float32]
STEPS, LEARNING_RATE, IMAGES = 30, 0.5, 128


def call(client: ApplicationClient, path: str, parameters: dict[str, str | int], **operands: Array) -> dict[str, Array]:
    """Call an operation with npz both ways."""
    body = io.BytesIO()
    np.savez(body, **operands)  # type: ignore[arg-type] # the stub takes the operands for the option allow_pickle
    headers = {"Content-Type": "application/x-npz", "Accept": "application/x-npz"}
    answer = client.post(path, params=parameters, content=body.getvalue(), headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(np.load(io.BytesIO(answer.content)))


def cross_entropy(scores: Array, labels: NDArray[np.int64]) -> tuple[float, Array]:
    """Return the mean loss and its gradient with respect to the scores."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    gradient = probabilities.copy()
    gradient[np.arange(len(labels)), labels] -= 1
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean()), gradient / len(labels)


def test_a_convolution_learns_digits_through_the_service(client: ApplicationClient) -> None:
    digits = load_digits()
    images: Array = digits.images[:IMAGES, :, :, None].astype(np.float32) / 16
    labels = digits.target[:IMAGES]
    random = np.random.default_rng(0)
    # convolution, ReLU, max pooling, and a dense layer that is a convolution over all that is left
    kernels: Array = random.normal(0, 0.3, (3, 3, 1, 8)).astype(np.float32)
    kernel_bias: Array = np.zeros(8, dtype=np.float32)
    dense: Array = random.normal(0, 0.1, (4, 4, 8, 10)).astype(np.float32)
    first_kernels = kernels.copy()
    losses = []
    for _ in range(STEPS):
        features = call(client, "/conv/forward", {"padding": 1}, input=images, weight=kernels, bias=kernel_bias)[
            "output"
        ]
        active = np.maximum(features, 0)
        pooled = call(client, "/pool/forward", {"mode": "max", "kernel_size": 2}, input=active)["output"]
        scores = call(client, "/conv/forward", {}, input=pooled, weight=dense)["output"]
        assert scores.shape == (IMAGES, 1, 1, 10)
        loss, gradient = cross_entropy(scores[:, 0, 0], labels)
        losses.append(loss)

        top = call(client, "/conv/backward", {}, grad_output=gradient[:, None, None], input=pooled, weight=dense)
        below = call(
            client, "/pool/backward", {"mode": "max", "kernel_size": 2}, grad_output=top["grad_input"], input=active
        )
        through = below["grad_input"] * (features > 0)
        bottom = call(
            client,
            "/conv/backward",
            {"padding": 1},
            grad_output=through,
            input=images,
            weight=kernels,
            bias=kernel_bias,
        )
        assert all(array.dtype == np.float32 for array in (*top.values(), *below.values(), *bottom.values()))
        dense -= LEARNING_RATE * top["grad_weight"]
        kernels -= LEARNING_RATE * bottom["grad_weight"]
        kernel_bias -= LEARNING_RATE * bottom["grad_bias"]
    assert losses[-1] < 0.6 * losses[0], losses
    assert not np.allclose(kernels, first_kernels)
    accuracy = (scores[:, 0, 0].argmax(axis=1) == labels).mean()
    assert accuracy > 0.8, accuracy
