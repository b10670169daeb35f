"""The answers that a student writes into report.md. Each is kept between two marks and shown in report.html."""

import base64
import mimetypes
import re
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from markdown_it import MarkdownIt

# Report files of users contain these marks and names, so they keep their spelling.
BEGIN_MARK, END_MARK = "<!-- your words: {} -->", "<!-- end of your words -->"
# The questions by the name in their mark.
QUESTIONS = {
    "introduction": "What is the task, which model solves it, and what is compared here?",
    "protocol": "How do training and testing work, step by step, and why?",
    "reparameterisation": "Why is z sampled like this, and where in the code?",
    "teacher forcing": "Which teacher-forcing strategy was chosen, and why?",
    "kl annealing": "What does the annealing ratio do, and which one was chosen?",
    "ratio curve": "Where does the ratio decrease, and how does the loss react?",
    "loss curve": "How do the loss curves of the annealing types differ, and why?",
    "psnr": "Where is the PSNR low, and where is it high? What do the frames there have in common?",
    "other": "What else was tried, and what did it change?",
}
# The wording of earlier versions. An earlier report contains it where there is no answer yet.
FORMER_QUESTIONS = {
    "protocol": "How do training and testing go, step by step, and why so?",
    "teacher forcing": "Which teacher forcing strategy was chosen, and why?",
    "kl annealing": "What does the annealing ratio do, and which was chosen?",
    "ratio curve": "Where does the ratio fall, and what does the loss do there?",
    "loss curve": "How do the loss curves under the annealing kinds differ, and why?",
    "psnr": "Where is the PSNR low, where high? What do the frames there have in common?",
}
MARKDOWN = MarkdownIt("js-default", {"breaks": True})  # accepts no HTML and no javascript: links; keeps line breaks


class Answer(NamedTuple):
    """A question, and the student's answer from report.md."""

    name: str
    text: str  # Markdown; "" without an answer
    folder: Path  # of report.md; the addresses of images are relative to it

    def html(self) -> str:
        if not self.text:
            return f'<aside class="words"><b>Your own words:</b> {escape(QUESTIONS[self.name])}</aside>'
        tokens = MARKDOWN.parse(self.text)
        for token in tokens:
            for part in token.children or []:
                if part.type == "image":
                    part.attrs["src"] = embed_image(str(part.attrs["src"]), self.folder)
        return f'<div class="answer">{MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})}</div>'

    def markdown(self) -> str:
        return "\n".join([BEGIN_MARK.format(self.name), self.text or placeholder(QUESTIONS[self.name]), END_MARK])


def embed_image(address: str, folder: Path) -> str:
    """Return the image as a data URI if the address is the path of a file relative to `folder`; else the address."""
    kind = mimetypes.guess_type(address, strict=False)[0] or ""
    if not kind.startswith("image/"):
        return address
    try:
        content = (folder / unquote(address)).read_bytes()
    except (OSError, ValueError):  # an address on the web, or not a valid file name
        return address
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def placeholder(question: str) -> str:
    """Return the line that report.md contains until there is an answer."""
    return f"> **Your own words:** {question}"


def read_answers(text: str) -> dict[str, str] | None:
    """Return the answers in a report.md by the names of their questions; None unless the text has every mark exactly once."""
    found = dict(re.findall(BEGIN_MARK.format("(.+?)") + "\n(.*?)" + END_MARK, text, flags=re.DOTALL))
    counts = text.count(BEGIN_MARK.split("{")[0]), text.count(END_MARK)
    if found.keys() != QUESTIONS.keys() or counts != (len(found), len(found)):
        return None
    answers = {}
    for name, question in QUESTIONS.items():
        answer = found[name].replace(placeholder(question), "")
        if name in FORMER_QUESTIONS:
            answer = answer.replace(placeholder(FORMER_QUESTIONS[name]), "")
        answers[name] = answer.strip()
    return answers
