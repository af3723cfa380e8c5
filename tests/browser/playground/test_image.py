"""Filters and poolings on a picture of the user's own."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

import cnn_core
from tests.browser.playground.bare import Bare, tensor

RNG = np.random.default_rng(16)
FILTERS = ["identity", "box blur", "Gaussian blur", "sharpen", "Sobel across", "Sobel down", "Laplacian", "emboss"]


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Red, green and blue of each pixel as a file."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def opened(bare: Bare, pixels: np.ndarray[Any, Any] | None = None, weight: Any = None) -> None:
    tensors = {} if weight is None else {"weight": tensor(weight)}
    bare.open("image", "ImageLab", {"op": "conv", "parameters": {}, "tensors": tensors})
    if pixels is not None:
        before = bare.evaluate("context.drawings")
        choose_file(bare, png(pixels))
        bare.wait(f"context.drawings > {before}")


def choose_file(bare: Bare, content: bytes, name: str = "own.png", kind: str = "image/png") -> None:
    bare.page.set_input_files("[name=file]", {"name": name, "mimeType": kind, "buffer": content})


def choose(bare: Bare, steps: list[tuple[str, int]]) -> None:
    for index, (name, size) in enumerate(steps):
        if index:
            bare.page.click('[data-action="add"]')
        bare.page.locator("[name=step]").nth(index).select_option(name)
        if name.endswith("pooling"):
            bare.page.locator(".steps li").nth(index).locator("[name=size]").select_option(str(size))


def apply(bare: Bare) -> None:
    bare.page.click('[data-action="apply"]')
    bare.settled()


def stepped(image: np.ndarray[Any, Any], name: str, size: int, kernel: np.ndarray[Any, Any] | None) -> Any:
    """A step by cnn_core, in float32."""
    if kernel is None:
        pool = cnn_core.MaxPool if name.startswith("max") else cnn_core.AvgPool
        return getattr(pool(kernel_size=size).forward(image), "output", pool(kernel_size=size).forward(image))
    channels = image.shape[-1]
    weight = np.repeat(kernel.astype(np.float32)[..., None, None], channels, axis=3)
    return cnn_core.Conv(groups=channels, padding="same", padding_mode="replicate").forward(image, weight)


def kernel_of(bare: Bare, name: str) -> np.ndarray[Any, Any] | None:
    values = bare.evaluate("async (name) => (await import('/playground/photo.js')).FILTERS[name] ?? null", name)
    return None if values is None else np.array(values).reshape(int(len(values) ** 0.5), -1)


def pixels(height: int = 23, width: int = 31) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, (height, width, 3))


def gray(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    brightness = picture @ np.array([299, 587, 114])
    return ((brightness + 500) // 1000).astype(np.float32)[None, ..., None]


@pytest.mark.parametrize("is_gray", [True, False])
@pytest.mark.parametrize(
    "steps",
    [
        *[[(name, 0)] for name in FILTERS],
        [("max pooling", 2)],
        [("average pooling", 5)],
        [("Gaussian blur", 0), ("max pooling", 3), ("Sobel down", 0), ("average pooling", 2)],
    ],
    ids=lambda steps: "-".join(name for name, _ in steps),
)
def test_a_result_is_that_of_cnn_core_bit_for_bit(bare: Bare, steps: list[tuple[str, int]], is_gray: bool) -> None:
    picture = pixels()
    opened(bare, picture)
    bare.page.locator("[name=gray]").set_checked(is_gray)
    choose(bare, steps)
    apply(bare)
    image = gray(picture) if is_gray else picture.astype(np.float32)[None]
    np.testing.assert_array_equal(bare.tensor("panel.input"), image)
    for name, size in steps:
        image = stepped(image, name, size, kernel_of(bare, name))
    result = bare.tensor("panel.result")
    assert result.dtype == image.dtype == np.float32
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("shape", [(3, 2, 1, 1), (1, 1, 3, 2)])
def test_the_weight_above_is_a_filter(bare: Bare, shape: tuple[int, ...]) -> None:
    picture, weight = pixels(), np.arange(6.0)
    opened(bare, picture, weight.reshape(shape))
    choose(bare, [("the weight above", 0)])
    apply(bare)
    np.testing.assert_array_equal(bare.tensor("panel.result"), stepped(gray(picture), "", 0, weight.reshape(3, 2)))


def test_a_weight_of_several_channels_is_no_filter(bare: Bare) -> None:
    opened(bare, weight=np.zeros((3, 3, 2, 1)))
    assert "the weight above" not in bare.page.locator("[name=step]").inner_text()


def test_nothing_is_sent_before_apply(bare: Bare) -> None:
    sent: list[str] = []
    bare.page.on("request", lambda request: sent.append(request.method))
    opened(bare, pixels())
    choose(bare, [("sharpen", 0), ("max pooling", 4)])
    bare.page.click("[data-drawing=strokes]")
    bare.page.locator("canvas").first.hover()
    expect(bare.page.locator(".image-lab")).to_contain_text("stays in this browser until you press Apply")
    assert "POST" not in sent
    apply(bare)
    assert sent.count("POST") == 2
    expect(bare.page.locator(".cost")).to_contain_text("2 calls")
    expect(bare.page.locator(".cost")).to_contain_text("204.8 kB of float32 sent, 108.8 kB received")


def test_a_large_picture_is_scaled(bare: Bare) -> None:
    opened(bare, np.full((40, 1030, 3), 77))
    assert bare.evaluate("panel.input.shape") == [1, 20, 512, 1]
    assert set(bare.evaluate("panel.input.data")) == {77}


def drawn_pixels(bare: Bare) -> np.ndarray[Any, Any]:
    script = """() => {
      const { width, height } = panel.drawn;
      return [...panel.drawn.getContext("2d").getImageData(0, 0, width, height).data];
    }"""
    return np.array(bare.evaluate(script)).reshape(*bare.evaluate("[panel.drawn.height, panel.drawn.width]"), 4)


@pytest.mark.parametrize("contrast", ["clip", "absolute", "stretch"])
def test_numbers_are_drawn_with_the_contrast_that_is_said(bare: Bare, contrast: str) -> None:
    opened(bare, pixels(60, 60))
    choose(bare, [("Sobel across", 0)])
    bare.page.select_option("[name=contrast]", contrast)
    apply(bare)
    result = bare.tensor("panel.result").astype(np.float64)[0, ..., 0]
    least, most = result.min(), result.max()
    values = {"clip": result, "absolute": abs(result), "stretch": (result - least) * (255 / (most - least))}[contrast]
    expected = np.clip(np.rint(values), 0, 255)
    shown = drawn_pixels(bare)
    away = np.hypot(*np.indices((60, 60)) - np.array(bare.evaluate("panel.place"))[:, None, None]) > 4
    np.testing.assert_array_equal(shown[away, 0], expected[away])
    np.testing.assert_array_equal(shown[..., 3], 255)
    expect(bare.page.locator(".hint").first).to_contain_text(f"The numbers go from {least:.4g} to {most:.4g}")


def influence(bare: Bare, steps: list[tuple[str, int]], shape: tuple[int, ...], place: tuple[int, int]) -> Any:
    """Where the input has a gradient of one cell of the result, by cnn_core with weights of ones."""
    images, ops = [np.ones(shape)], []
    for name, size in steps:
        kernel = kernel_of(bare, name)
        if kernel is None:
            op, operands = cnn_core.AvgPool(kernel_size=size), []
        else:
            op, operands = cnn_core.Conv(padding="same", padding_mode="replicate"), [np.ones((*kernel.shape, 1, 1))]
        ops.append((op, operands))
        images.append(op.forward(images[-1], *operands))
    gradient = np.zeros_like(images[-1])
    gradient[0, place[0], place[1], 0] = 1
    for (op, operands), image in zip(reversed(ops), reversed(images[:-1]), strict=True):
        gradient = op.backward(gradient, image, *operands)
        gradient = getattr(gradient, "grad_input", gradient)
    return gradient[0, ..., 0] != 0


@pytest.mark.parametrize("place", [(5, 4), (0, 0), (9, 12)])
def test_the_loupe_shows_the_numbers_and_the_window(bare: Bare, place: tuple[int, int]) -> None:
    steps = [("Gaussian blur", 0), ("max pooling", 2), ("Sobel across", 0)]
    picture = pixels(20, 26)
    opened(bare, picture)
    choose(bare, steps)
    apply(bare)
    drawn = bare.page.locator("canvas").nth(1)
    drawn.focus()
    for _ in range(13):
        drawn.press("ArrowUp")
        drawn.press("ArrowLeft")
    for key, count in zip(("ArrowDown", "ArrowRight"), place, strict=True):
        for _ in range(count):
            drawn.press(key)
    assert bare.evaluate("panel.place") == list(place)
    image, result = bare.tensor("panel.input"), bare.tensor("panel.result")
    for name, array in (("loupe-input", image), ("loupe-result", result)):
        shown = bare.grid(name)
        assert len(shown) == min(16, array.shape[1]) * min(16, array.shape[2])
        assert {index: np.float32(value) for index, value in shown.items()} == {
            index: array.ravel()[index] for index in shown
        }
    here = bare.page.locator('[data-tensor="loupe-result"] .here')
    assert here.get_attribute("data-index") == str(place[0] * result.shape[2] + place[1])
    lit = bare.page.locator('[data-tensor="loupe-input"] .lit')
    indices = lit.evaluate_all("cells => cells.map(cell => Number(cell.dataset.index))")
    expected = influence(bare, steps, image.shape, place).ravel()
    assert sorted(indices) == np.flatnonzero(expected).tolist()
    expect(bare.page.locator(".loupe-words")).to_have_attribute("aria-live", "polite")
    expect(bare.page.locator(".loupe-words")).to_contain_text(f"Row {place[0]}, column {place[1]} of the result")


def test_the_pointer_moves_the_loupe(bare: Bare) -> None:
    opened(bare, pixels(40, 40))
    choose(bare, [("max pooling", 2)])
    apply(bare)
    canvas = bare.page.locator("canvas").first
    box = canvas.bounding_box()
    assert box is not None
    canvas.hover(position={"x": box["width"] * 30.5 / 40, "y": box["height"] * 11.5 / 40})
    assert bare.evaluate("panel.place") == [5, 15]
    bare.page.locator("canvas").nth(1).hover(position={"x": box["width"] * 2.5 / 20, "y": box["height"] * 7.5 / 20})
    assert bare.evaluate("panel.place") == [7, 2]


def test_pictures_are_dropped_and_pasted(bare: Bare) -> None:
    opened(bare)
    first, second = pixels(8, 9), pixels(7, 5)
    script = """([content, kind]) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(content)], "own.png", { type: "image/png" }));
      const options = { bubbles: true, cancelable: true };
      if (kind === "paste") window.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
      else {
        const place = document.querySelector(".image-lab");
        place.dispatchEvent(new DragEvent("drop", { ...options, dataTransfer: data }));
      }
    }"""
    for picture, kind in ((first, "drop"), (second, "paste")):
        bare.evaluate(script, [list(png(picture)), kind])
        bare.wait(f"`${{panel.input.shape}}` === '1,{picture.shape[0]},{picture.shape[1]},1'")
        np.testing.assert_array_equal(bare.tensor("panel.input"), gray(picture))


def test_what_is_no_picture_is_said(bare: Bare) -> None:
    opened(bare)
    choose_file(bare, b"no picture at all")
    expect(bare.page.get_by_role("alert")).to_have_text("The browser cannot read this picture.")
    choose_file(bare, b"text", "a.txt", "text/plain")
    expect(bare.page.get_by_role("alert")).to_have_text("This is no picture.")


def test_a_window_larger_than_the_picture_is_said(bare: Bare) -> None:
    opened(bare, pixels(4, 4))
    choose(bare, [("max pooling", 8)])
    apply(bare)
    expect(bare.page.get_by_role("alert")).to_contain_text("a window spans 8")


def test_there_are_at_most_four_steps(bare: Bare) -> None:
    opened(bare)
    choose(bare, [("sharpen", 0), ("max pooling", 2), ("max pooling", 2), ("identity", 0)])
    expect(bare.page.locator('[data-action="add"]')).to_be_disabled()
    bare.page.get_by_role("button", name="Remove step 2").click()
    assert bare.evaluate("panel.steps.map(({ name }) => name)") == ["sharpen", "max pooling", "identity"]
    apply(bare)
    expect(bare.page.locator("canvas").nth(1)).to_be_visible()
    bare.page.get_by_role("button", name="Remove step 1").click()
    expect(bare.page.locator(".columns figure").nth(1)).to_have_class("stale")


@pytest.mark.parametrize("drawing", ["ramp and shapes", "checkerboard", "strokes"])
def test_there_are_pictures_to_begin_with(bare: Bare, drawing: str) -> None:
    opened(bare)
    bare.page.click(f'[data-drawing="{drawing}"]')
    bare.page.locator("[name=gray]").set_checked(drawing == "strokes")
    assert np.ptp(bare.tensor("panel.input")) > 150
    apply(bare)
    bare.look(f"image-{drawing.split(maxsplit=1)[0]}")
