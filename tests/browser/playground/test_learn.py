"""Gradient descent through the service finds a hidden weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

import cnn_core
from tests.browser.playground.bare import Bare

HIDDEN = ["Sobel across", "Sobel down", "blur", "sharpen"]


def opened(bare: Bare) -> None:
    bare.page.emulate_media(reduced_motion="reduce")
    bare.open("learn", "Learn")


def ended(bare: Bare) -> None:
    bare.wait("!panel.running && !panel.busy")


def descent(bare: Bare, rate: float, steps: int) -> tuple[list[float], np.ndarray[Any, Any]]:
    """Losses and the weight, by cnn_core in the numbers of the page."""
    image, hidden = bare.tensor("panel.input"), bare.tensor("panel.hidden")
    conv = cnn_core.Conv()
    target, weight, losses = conv.forward(image, hidden), np.zeros_like(hidden), []
    for step in range(steps + 1):
        error = conv.forward(image, weight) - target
        losses.append(float(np.mean(np.square(error, dtype=np.float64))))
        if step < steps:
            gradient = conv.backward(error * 2 / error.size, image, weight, wrt=("weight",)).grad_weight
            weight = (weight - rate * gradient).astype(weight.dtype)
    return losses, weight


def test_each_step_is_one_of_gradient_descent(bare: Bare) -> None:
    opened(bare)
    for _ in range(3):
        bare.page.click('[data-action="step"]')
        bare.settled()
    losses, weight = descent(bare, bare.evaluate("panel.rate"), 3)
    np.testing.assert_allclose(bare.evaluate("panel.losses"), losses, rtol=1e-12)
    np.testing.assert_allclose(bare.tensor("panel.weight"), weight, rtol=1e-12, atol=1e-15)
    expect(bare.page.locator(".learn-now")).to_contain_text("Step 3")
    shown = bare.grid("learned")
    np.testing.assert_allclose([float(shown[index]) for index in range(9)], weight.ravel(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_it_finds_the_hidden_weight_in_fewer_than_100_steps(bare: Bare, hidden: str, dtype: str) -> None:
    opened(bare)
    bare.page.select_option("[name=dtype]", dtype)
    bare.page.select_option("[name=hidden]", hidden)
    bare.settled()
    bare.page.click('[data-action="run"]')
    ended(bare)
    losses = bare.evaluate("panel.losses")
    assert 1 < len(losses) <= 100
    assert losses[-1] < 1e-6 <= losses[-2]
    assert bare.evaluate("panel.weight.dtype") == dtype
    np.testing.assert_allclose(bare.tensor("panel.weight"), bare.tensor("panel.hidden"), atol=0.01)
    expect(bare.page.locator(".learn-status")).to_contain_text(f"Found after {len(losses) - 1} steps")
    expect(bare.page.locator('[data-action="run"]')).to_be_disabled()


def test_other_pictures_are_learned_from_too(bare: Bare) -> None:
    opened(bare)
    first = bare.tensor("panel.input")
    for _ in range(3):
        bare.page.click('[data-action="picture"]')
        bare.settled()
        assert set(np.unique(bare.tensor("panel.input"))) == {-1, 0, 1}
        bare.page.click('[data-action="run"]')
        ended(bare)
        assert len(bare.evaluate("panel.losses")) <= 100
    assert (bare.tensor("panel.input") != first).any()


def test_steps_that_are_too_large_are_said_and_stopped(bare: Bare) -> None:
    opened(bare)
    slider = bare.page.locator("[name=rate]")
    slider.focus()
    slider.press("End")
    bare.page.locator('[data-action="run"]').press("Enter")
    ended(bare)
    losses = bare.evaluate("panel.losses")
    assert losses[0] < losses[1] < losses[2] < losses[3]
    assert len(losses) == 4
    expect(bare.page.locator(".learn-status")).to_contain_text("The loss grows")
    expect(bare.page.locator(".learn-status")).to_contain_text("take smaller steps")
    for _ in range(3):
        slider.press("PageDown")
    bare.page.locator('[data-action="run"]').press("Enter")  # goes on from there
    ended(bare)
    expect(bare.page.locator(".learn-status")).to_contain_text("Found after")


def test_a_rate_that_is_too_small_ends_at_500_steps(bare: Bare) -> None:
    opened(bare)
    bare.page.locator("[name=rate]").press("Home")
    bare.evaluate("panel.losses.unshift(...Array(495).fill(9))")  # as if it had gone on for long
    bare.page.click('[data-action="run"]')
    ended(bare)
    assert len(bare.evaluate("panel.losses")) == 501
    expect(bare.page.locator(".learn-status")).to_contain_text("Stopped after 500 steps")


def test_a_run_is_paused_and_goes_on(bare: Bare) -> None:
    bare.open("learn", "Learn")
    button = bare.page.locator('[data-action="run"]')
    button.press("Enter")
    bare.wait("panel.losses.length > 2")
    expect(button).to_have_text("Pause")
    button.press("Enter")
    bare.settled()
    paused = len(bare.evaluate("panel.losses"))
    assert not bare.evaluate("panel.running")
    expect(bare.page.locator(".learn-status")).to_contain_text("Paused after")
    button.press("Enter")
    ended(bare)
    assert len(bare.evaluate("panel.losses")) > paused
    expect(bare.page.locator(".learn-status")).to_contain_text("Found")


def test_the_hidden_weight_is_shown_on_demand(bare: Bare) -> None:
    opened(bare)
    assert bare.grid("hidden") == {}
    bare.page.check("[name=show]")
    assert [float(value) for value in bare.grid("hidden").values()] == [-1, 0, 1, -2, 0, 2, -1, 0, 1]
    assert [float(value) for value in bare.grid("error").values()] == [1, 0, -1, 2, 0, -2, 1, 0, -1]


def test_the_curve_has_a_logarithmic_axis_and_words(bare: Bare) -> None:
    opened(bare)
    bare.page.click('[data-action="run"]')
    ended(bare)
    losses = bare.evaluate("panel.losses")
    points = bare.page.get_attribute("svg.loss polyline", "points") or ""
    heights = [float(point.split(",")[1]) for point in points.split()]
    slope, _ = np.polyfit(np.log10(losses), heights, 1)
    np.testing.assert_allclose(np.diff(heights), slope * np.diff(np.log10(losses)), atol=0.2)
    assert slope < 0
    label = bare.page.get_attribute("svg.loss", "aria-label") or ""
    assert f"after {len(losses) - 1} steps" in label
    bare.page.check("[name=show]")
    bare.look("learn")


def test_nothing_is_asked_once_the_panel_is_closed(bare: Bare) -> None:
    bare.open("learn", "Learn")
    bare.page.click('[data-action="run"]')
    bare.wait("panel.losses.length > 2")
    bare.evaluate("panel.stop()")
    before = bare.evaluate("panel.losses.length")
    for _ in range(2):
        bare.evaluate("context.service.get('/ops')")  # further requests of the panel would come before it
    assert bare.evaluate("panel.losses.length") == before


def test_trouble_of_the_service_is_said(bare: Bare) -> None:
    opened(bare)
    bare.page.route("**/conv/backward", lambda route: route.abort())
    bare.page.click('[data-action="step"]')
    expect(bare.page.get_by_role("alert")).to_contain_text("cannot be reached")
    bare.page.unroute("**/conv/backward")
    bare.page.click('[data-action="step"]')
    bare.settled()
    expect(bare.page.get_by_role("alert")).to_have_count(0)
    expect(bare.page.locator(".learn-now")).to_contain_text("Step 1")
    bare.complaints.clear()  # of the request that failed
