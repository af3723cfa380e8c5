"""Draw docs/picture.png: a real photograph, its edges and its maxima, all computed by a running service.

Usage: python docs/make_picture.py [URL]
"""

import io
import sys
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

HEADERS = {"Content-Type": "application/x-npz"}
SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=np.float32)
LABELS = ("photograph", "conv/forward: Sobel edges", "pool/forward: max 9x9, stride 9")


def post(url: str, parameters: dict[str, object], **operands: NDArray[np.float32]) -> NDArray[np.float32]:
    body = io.BytesIO()
    np.savez(body, **operands)  # type: ignore[arg-type] # the stub takes the operands for the option allow_pickle
    response = httpx.post(url, params=parameters, content=body.getvalue(), headers=HEADERS).raise_for_status()
    result: NDArray[np.float32] = np.load(io.BytesIO(response.content))
    return result


def main(server: str) -> None:
    photograph = load_sample_image("china.jpg").astype(np.float32)[None] / 255  # (1, 427, 640, 3)
    brightness = photograph.mean(axis=-1, keepdims=True)
    kernels = np.stack([SOBEL, SOBEL.T], axis=-1)[:, :, None, :]  # (3, 3, 1, 2): across and down
    gradients = post(f"{server}/conv/forward", {}, input=brightness, weight=kernels)
    edges = np.hypot(gradients[..., :1], gradients[..., 1:])
    pooled = post(f"{server}/pool/forward", {"mode": "max", "kernel_size": 9, "ceil_mode": "true"}, input=photograph)

    panels = (photograph, 1 - np.clip(edges / 2, 0, 1).repeat(3, axis=-1), pooled)
    width, height, margin, label_height = 480, 320, 12, 28
    sheet = Image.new("RGB", (3 * width + 4 * margin, height + label_height + 2 * margin), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for index, (panel, label) in enumerate(zip(panels, LABELS, strict=True)):
        left = margin + index * (width + margin)
        image = Image.fromarray((panel[0] * 255).round().astype(np.uint8)).resize((width, height), Image.Resampling.BOX)
        sheet.paste(image, (left, margin))
        draw.text((left, margin + height + 6), label, fill="black", font=font)
    sheet.quantize(192).save(Path(__file__).parent / "picture.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
