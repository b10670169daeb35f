"""The page of a report: a student's answers in it, and the page in a browser."""

import pytest
from PIL import Image

from tests.helpers.browser import check_player, chromium, image_widths
from tests.helpers.reports import copy_run, edit, write
from tools.reporting.answers import BEGIN_MARK, QUESTIONS, read_answers
from tools.reporting.blocks import Table


@pytest.mark.usefixtures("blank_charts")
def test_an_answer_is_kept_and_is_in_both_files(tested, tmp_path):
    out = tmp_path / "report"
    _, markdown = write(tested, out=out)
    first = BEGIN_MARK.format("introduction") + f"\n> **Your own words:** {QUESTIONS['introduction']}\n"
    assert first in markdown
    (out / "report.md").write_text(
        markdown.replace(first, first + "A dance & <more>.\n\nSecond.\n"), encoding="utf-8", newline="\r\n"
    )
    for _ in range(2):
        page, markdown = write(tested, out=out)
        assert "<p>A dance &amp; &lt;more&gt;.</p>\n<p>Second.</p>" in page and "A dance & <more>.\n\nSecond.\n" in markdown
        assert QUESTIONS["introduction"] not in page and QUESTIONS["psnr"] in page


def old_report(answers: dict[str, str]) -> str:
    """Return a report.md as the first version of the program wrote it, with these answers by the names in its marks."""
    questions = {
        "introduction": "What is the task, which model solves it, and what is compared here?",
        "protocol": "How do training and testing go, step by step, and why so?",
        "reparameterisation": "Why is z sampled like this, and where in the code?",
        "teacher forcing": "Which teacher forcing strategy was chosen, and why?",
        "kl annealing": "What does the annealing ratio do, and which was chosen?",
        "ratio curve": "Where does the ratio fall, and what does the loss do there?",
        "loss curve": "How do the loss curves under the annealing kinds differ, and why?",
        "psnr": "Where is the PSNR low, where high? What do the frames there have in common?",
        "other": "What else was tried, and what did it change?",
    }
    parts = ["# An old report", "## Results at a glance"]
    for name, question in questions.items():
        placeholder = f"> **Your own words:** {question}"
        answer = answers.get(name, "{placeholder}").replace("{placeholder}", placeholder)
        parts.append(f"<!-- your words: {name} -->\n{answer}\n<!-- end of your words -->")
    return "\n\n".join(parts) + "\n"


@pytest.mark.usefixtures("blank_charts")
def test_the_answers_of_an_old_report_survive(tested, tmp_path):
    """Its marks have the same names, but questions, headings and placeholders had another wording."""
    answers = {
        "introduction": "A dance, predicted.",
        "reparameterisation": "Because of the *gradient*.\n\n- in `gaussian.py`",
        "teacher forcing": "{placeholder} Answered on the same line.",
        "psnr": "{placeholder}\nLow where she turns.",
        "loss curve": "> **Your own words:** is not a question of this report.",
    }
    (tmp_path / "report.md").write_text(old_report(answers), encoding="utf-8")
    expected = {
        "introduction": "A dance, predicted.",
        "protocol": "",
        "reparameterisation": "Because of the *gradient*.\n\n- in `gaussian.py`",
        "teacher forcing": "Answered on the same line.",
        "kl annealing": "",
        "ratio curve": "",
        "loss curve": "> **Your own words:** is not a question of this report.",
        "psnr": "Low where she turns.",
        "other": "",
    }
    for _ in range(2):  # the new report is read again
        assert read_answers((tmp_path / "report.md").read_text(encoding="utf-8")) == expected
        page, markdown = write(tested, out=tmp_path)
        assert "<p>Because of the <em>gradient</em>.</p>" in page and "<p>Low where she turns.</p>" in page
        assert "\nAnswered on the same line.\n<!-- end of your words -->" in markdown
        for name, answer in expected.items():
            assert (QUESTIONS[name] in page) == (answer == "")
    assert "go, step by step, and why so?" not in markdown


@pytest.mark.usefixtures("blank_charts")
def test_an_answer_is_rendered_as_markdown_without_html(tested, tmp_path):
    """A list was once shown as one line with dashes in it. An image next to report.md is embedded in report.html."""
    Image.new("RGB", (3, 2)).save(tmp_path / "my sketch.png")
    answer = "So **low** here:\n- a & b\n- [the paper](https://example.org/a?b&c)\n\nOne line,\nanother with `x < y`.\n\n![mine](my%20sketch.png)"
    evil = "<script>x()</script> [y](javascript:alert(1)) ![z](../secret.txt) ![w](http://example.org/w.png)"
    write(tested, out=tmp_path)
    mark = BEGIN_MARK.format("psnr") + "\n"
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
def test_the_question_is_below_the_title(tested, tmp_path):
    """Every later report has it too, as text and not as markup."""
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
    """At the widths of a phone and of a desktop, there are no errors, all images, no horizontal scrolling, and videos that play."""
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
            browser.get("about:blank")  # else a second visit of one page may still show the first
            browser.get((tmp_path / kind / "report.html").as_uri())
            run = browser.execute_script
            widths = image_widths(run)
            assert len(widths) > 20 and all(widths)
            assert run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert run("return [...document.images].every(image => image.hidden || image.alt)")
            check_player(run, lost=6 if kind == "dance" else None)
        assert [entry for entry in browser.get_log("browser") if entry["source"] != "rendering"] == []
    finally:
        browser.quit()
