"""What each peer does with a request: npz in, PyTorch's convolution, npy out."""

from __future__ import annotations

import io

import numpy as np
import torch

__all__ = ["conv_forward"]


@torch.inference_mode()
def conv_forward(body: bytes, padding: int) -> bytes:
    """Return the output as npy; operands and output are channels-first, which is PyTorch's own layout."""
    with np.load(io.BytesIO(body)) as operands:
        operand, weight = (torch.from_numpy(operands[name]) for name in ("input", "weight"))
    output = torch.nn.functional.conv2d(operand, weight, padding=padding)
    file = io.BytesIO()
    np.save(file, output.numpy())
    return file.getvalue()
