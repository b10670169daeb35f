"""The page of a report: what a student writes into it, and how a browser shows it."""

import pytest
from PIL import Image

from tests.helpers.browser import check_player, chromium, loaded
from tests.helpers.reports import copy_run, edit, write
from tools.reporting.page import QUESTION_MARKS, Table
from tools.reporting.sections import QUESTIONS


@pytest.mark.usefixtures("blank_charts")
def test_what_was_written_is_kept_and_stands_in_both(tested, tmp_path):
    out = tmp_path / "report"
    _, markdown = write(tested, out=out)
    first = QUESTION_MARKS[0].format("introduction") + f"\n> **Your own words:** {QUESTIONS['introduction']}\n"
    assert first in markdown
    (out / "report.md").write_text(
        markdown.replace(first, first + "A dance & <more>.\n\nSecond.\n"), encoding="utf-8", newline="\r\n"
    )
    for _ in range(2):
        page, markdown = write(tested, out=out)
        assert "<p>A dance &amp; &lt;more&gt;.</p>\n<p>Second.</p>" in page and "A dance & <more>.\n\nSecond.\n" in markdown
        assert QUESTIONS["introduction"] not in page and QUESTIONS["psnr"] in page


@pytest.mark.usefixtures("blank_charts")
def test_an_answer_in_markdown_is_shown_as_such_and_is_no_way_into_the_page(tested, tmp_path):
    """A list became one line with dashes in it. A picture beside report.md is taken into report.html, which is one file."""
    Image.new("RGB", (3, 2)).save(tmp_path / "my sketch.png")
    answer = "So **low** here:\n- a & b\n- [the paper](https://example.org/a?b&c)\n\nOne line,\nanother with `x < y`.\n\n![mine](my%20sketch.png)"
    evil = "<script>x()</script> [y](javascript:alert(1)) ![z](../secret.txt) ![w](http://example.org/w.png)"
    write(tested, out=tmp_path)
    mark = QUESTION_MARKS[0].format("psnr") + "\n"
    markdown = (tmp_path / "report.md").read_text().replace(mark, f"{mark}{answer}\n\n{evil}\n")
    (tmp_path / "report.md").write_text(markdown)
    page, markdown = write(tested, out=tmp_path)
    assert (
        '<p>So <strong>low</strong> here:</p>\n<ul>\n<li>a &amp; b</li>\n<li><a href="https://example.org/a?b&amp;c">the paper</a></li>\n</ul>'
        in page
    )
    assert "<p>One line,<br>\nanother with <code>x &lt; y</code>.</p>" in page and answer in markdown
    assert (
        '<img src="data:" alt="mine">' in page
        and '<img src="../secret.txt" alt="z"> <img src="http://example.org/w.png" alt="w">' in page
    )
    assert "&lt;script&gt;x()&lt;/script&gt; [y](javascript:alert(1))" in page


@pytest.mark.usefixtures("blank_charts")
def test_the_question_stands_under_the_title(tested, tmp_path):
    """Each time, as text, and beside what was written between the marks."""
    more = ("--title=KL $links", "--question=Is a < b,\n & is $body | better?")
    for _ in range(2):
        page, markdown = write(tested, out=tmp_path / "report", more=more)
        assert "<header><h1>KL $links</h1><p>Is a &lt; b,\n &amp; is $body | better?</p></header>" in page
        assert markdown.startswith("# KL $links\n\nIs a \\< b, & is $body \\| better?\n\n## ")


@pytest.mark.usefixtures("blank_charts")
def test_names_are_text_and_not_markup(tested, tmp_path):
    run = copy_run(tested, tmp_path / "<b>a&\"'|$1_{$2")
    page, markdown = write(run, tested, out=tmp_path / "report", more=("--title", "</title><script>x"))
    assert "<b>a" not in page and "&lt;b&gt;a&amp;&quot;&#x27;|$1_{$2" in page and "<script>x" not in page
    assert "\\<b\\>a&\"'\\|$1\\_{$2" in markdown.replace("$1_", "$1\\_")
    assert Table("c", ["a"], [["x\ny|z"]]).markdown().endswith("| x y\\|z |")


@pytest.mark.slow
def test_a_browser_shows_the_page(tested, tested_robot, tmp_path):
    """From file://, at the width of a phone and of a desk: no error, all pictures, no sideways scrolling, videos that play."""
    webdriver, options, service = chromium()
    other = copy_run(tested, tmp_path / "a_run_with_a_long_name_of_its_own_kind", better=0.5, kl_anneal_type="Monotonic")
    edit(other / "test" / "scores.json", lambda scores: scores["per_frame"]["0"]["psnr"].__setitem__(5, None))
    write(tested, other, out=tmp_path / "dance")
    write(tested_robot, out=tmp_path / "robot")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    browser = webdriver.Chrome(options=options, service=service)
    try:
        for kind, width in (("dance", 400), ("dance", 1600), ("robot", 400)):
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            )
            browser.get("about:blank")  # not the same page twice, of which the first might still be seen
            browser.get((tmp_path / kind / "report.html").as_uri())
            run = browser.execute_script
            pictures = loaded(run)
            assert len(pictures) > 20 and all(pictures)
            assert run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert run("return [...document.images].every(image => image.hidden || image.alt)")
            check_player(run, lost=6 if kind == "dance" else None)
        assert [
            entry for entry in browser.get_log("browser") if entry["source"] != "rendering"
        ] == []  # that is said of this test
    finally:
        browser.quit()
