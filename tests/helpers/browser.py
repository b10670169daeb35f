"""A headless browser for the tests of pages."""

import os
import re
import shutil
import time

import pytest


def chromium():
    """A headless Chromium, or the test is skipped; with CI_BROWSER=1 it fails instead."""
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


def loaded(run) -> list[int]:
    """The widths of all pictures, 0 for one that could not be read; `run` executes a script in the page. A machine that is busy
    may still be reading the page when it is said to be there."""
    for _ in range(600):
        if run("return document.readyState === 'complete' && [...document.images].every(image => image.complete)"):
            break
        time.sleep(0.1)
    return run("return [...document.images].map(image => image.naturalWidth)")


def check_player(run, *, lost: int | None = None) -> None:
    """The slider, a click into the chart and the button; `run` executes a script in the page. The last video of the first player
    has no score at the frame `lost`."""
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
    assert run(scores)[-1] == "given"
    run("const box = document.querySelector('.linked').getBoundingClientRect();"
        "document.querySelector('.linked').dispatchEvent(new MouseEvent('click', {clientX: box.left + 0.99 * box.width}))")  # fmt: skip
    assert int(run(output).removeprefix("frame ")) == run("return Number(document.querySelector('.player input').max)")
    run("document.querySelector('.player button').click()")
    assert run("return document.querySelector('.player button').textContent") == "Pause"
