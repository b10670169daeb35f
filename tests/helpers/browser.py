"""A headless browser for the tests of pages."""

import os
import re
import shutil
import time

import pytest


def chromium():
    """Return selenium's webdriver module, and the options and the service to start a headless Chromium with it.

    If something is missing, skip the test, or fail it with CI_BROWSER=1.
    """
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    if not (binary and driver and webdriver):
        lacking = [name for name, found in (("chromium", binary), ("chromedriver", driver), ("selenium", webdriver)) if not found]
        (pytest.fail if os.environ.get("CI_BROWSER") == "1" else pytest.skip)(f"not found: {', '.join(lacking)}")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update",
                 "disable-sync", "disable-dev-shm-usage"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver, options, webdriver.ChromeService(driver)


def image_widths(run) -> list[int]:
    """Return the widths of all images, 0 for one that cannot be read; `run` executes a script in the page.

    On a busy machine, images may still be loading when the browser reports the page as loaded.
    """
    for _ in range(600):
        if run("return document.readyState === 'complete' && [...document.images].every(image => image.complete)"):
            break
        time.sleep(0.1)
    return run("return [...document.images].map(image => image.naturalWidth)")


def check_player(run, *, lost: int | None = None) -> None:
    """Check the slider, the chart and the button of the first player; `run` executes a script in the page.

    The last video has no score at the frame `lost`.
    """
    slide = "const slider = document.querySelector('.player input'); slider.value = arguments[0]; slider.dispatchEvent(new Event('input'));"
    draw = ("const canvas = document.querySelector('canvas');"
            "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]")  # fmt: skip
    output = "return document.querySelector('.player output').textContent"
    run(slide, 0)
    first = run(draw)
    assert max(first[::4]) > 0 and run(output) == "frame 0"
    run(slide, 4)
    assert run(draw) != first and run(output) == "frame 4"
    assert re.fullmatch(
        r"\d+\.\d\d dB", run("return [...document.querySelectorAll('.player .score')].map(s => s.textContent).find(text => text)")
    )
    scores = "return [...document.querySelector('.tiles').querySelectorAll('.score')].map(score => score.textContent)"
    if lost:
        run(slide, lost)
        assert run(scores)[-1] == "no score" and run(scores)[-2].endswith(" dB")
    run(slide, 0)
    assert run(scores)[-1] == "context frame"
    run("const box = document.querySelector('.linked').getBoundingClientRect();"
        "document.querySelector('.linked').dispatchEvent(new MouseEvent('click', {clientX: box.left + 0.99 * box.width}))")  # fmt: skip
    assert int(run(output).removeprefix("frame ")) == run("return Number(document.querySelector('.player input').max)")
    slider, button = "document.querySelector('.player input')", "document.querySelector('.player button')"
    assert run(f"return {slider}.getAttribute('aria-valuetext')") == run(
        f"return 'frame ' + {slider}.max + ' of ' + {slider}.max"
    )
    assert run(f"return {button}.getAttribute('aria-label')").startswith("Play sequence ")
    run(f"{button}.click()")
    assert run(f"return {button}.textContent") == "Pause"
    assert run(f"return {button}.getAttribute('aria-label')").startswith("Pause sequence ")
