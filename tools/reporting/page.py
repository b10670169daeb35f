"""What a report is made of: blocks that can be written as HTML, with all pictures inside, and as Markdown, with files beside."""

import base64
import json
import math
import mimetypes
import re
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt

from tools.reporting.videos import Sprite

PICTURES = "pictures"  # folder beside report.md
MARKDOWN = MarkdownIt("js-default", {"breaks": True})  # takes no HTML and no javascript: links; a line stays a line
TEMPLATE = Path(__file__).with_name("template.html")
QUESTION_MARKS = BEGIN, END = "<!-- your words: {} -->", "<!-- end of your words -->"


def data_uri(content: bytes) -> str:
    """An image inside the page."""
    kind = "png" if content.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def plain_markdown(text: str) -> str:
    """Text that Markdown shall take as it is."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))


class Heading(NamedTuple):
    """`level` 2 or 3, listed in the contents, or 4."""

    level: int
    text: str

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.text.lower()).strip("-")

    def html(self) -> str:
        return f'<h{self.level} id="{self.anchor}">{escape(self.text)}</h{self.level}>'

    def markdown(self) -> str:
        return f"{'#' * self.level} {plain_markdown(self.text)}"


class Text(NamedTuple):
    """One paragraph; `code` is a command in its end, to be copied."""

    text: str
    code: str = ""

    def html(self) -> str:
        return f"<p>{escape(self.text)}{f' <code>{escape(self.code)}</code>' if self.code else ''}</p>"

    def markdown(self) -> str:
        return plain_markdown(self.text) + (f"\n\n    {self.code}" if self.code else "")


class Table(NamedTuple):
    """Rows under a header; the first cell of a row is its name."""

    caption: str
    header: list[str]
    rows: list[list[str]]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>\n'
            for row in self.rows
        )
        # Reached by the keyboard, because a narrow window scrolls it; the caption outside, or it would be scrolled as well.
        label = escape(self.caption)
        return (f'<p class="caption">{label}</p><div class="scroll" tabindex="0" role="region" aria-label="{label}">'
                f'<table aria-label="{label}">\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>')  # fmt: skip

    def markdown(self) -> str:
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        cells = [[cell if i == 1 else plain_markdown(cell) for cell in line] for i, line in enumerate(lines)]
        return "\n".join([f"*{plain_markdown(self.caption)}*", "", *(f"| {' | '.join(line)} |" for line in cells)])


class Picture(NamedTuple):
    """A chart; `alt` says what it shows to those who do not see it."""

    name: str
    content: bytes  # PNG
    alt: str

    def html(self) -> str:
        return f'<figure><img class="chart" alt="{escape(self.alt)}" src="{data_uri(self.content)}"></figure>'

    def markdown(self) -> str:
        return f"![{plain_markdown(self.alt)}]({PICTURES}/{quote(self.name)})"

    def files(self) -> dict[str, bytes]:
        return {self.name: self.content}


class Pictures(NamedTuple):
    """Charts that stand beside each other where there is room."""

    charts: list[Picture]

    def html(self) -> str:
        return f'<div class="charts">{"".join(chart.html() for chart in self.charts)}</div>'

    def markdown(self) -> str:
        return "\n\n".join(chart.markdown() for chart in self.charts)

    def files(self) -> dict[str, bytes]:
        return {chart.name: chart.content for chart in self.charts}


class Tile(NamedTuple):
    """One video of a player, or one frame of a row."""

    name: str
    caption: str
    picture: bytes  # PNG of a frame
    sprite: Sprite | None = None
    psnr: list[float | None] | None = None  # of each frame

    def html(self) -> str:
        caption = f'<figcaption><b>{escape(self.name)}</b> <span class="score">{escape(self.caption)}</span></figcaption>'
        if self.sprite is None:
            alt = f"{self.name} {self.caption}".strip()
            return f'<figure class="tile"><img alt="{escape(alt)}" src="{data_uri(self.picture)}">{caption}</figure>'
        width, height = self.sprite.size
        psnr = json.dumps(self.psnr, separators=(",", ":"))
        return (f'<figure class="tile"><canvas width="{width}" height="{height}" role="img" '
                f'aria-label="video: {escape(self.name)}" data-columns="{self.sprite.columns}" data-psnr="{psnr}"></canvas>'
                f'<img hidden alt="" src="{data_uri(self.sprite.content)}">{caption}</figure>')  # fmt: skip


def rows_of_tiles(tiles: list[Tile]) -> str:
    """Tiles in rows of at most six, all equally long."""
    rows = math.ceil(len(tiles) / 6)
    return f'<div class="tiles" style="--n:{math.ceil(len(tiles) / rows)}">{"".join(tile.html() for tile in tiles)}</div>'


class Frames(NamedTuple):
    """Frames worth looking at: {what it is: truth, pose and predictions}; in Markdown one picture of all."""

    rows: dict[str, list[Tile]]
    picture: Picture

    def html(self) -> str:
        moments = "".join(
            f'<div class="moment"><h5>{escape(name)}</h5>{rows_of_tiles(tiles)}</div>' for name, tiles in self.rows.items()
        )
        return f'<div class="moments">{moments}</div>'

    def markdown(self) -> str:
        return self.picture.markdown()

    def files(self) -> dict[str, bytes]:
        return self.picture.files()


class Player(NamedTuple):
    """Videos in step with each other, and with the chart of their PSNR, where there is one; in Markdown a GIF."""

    title: str
    tiles: list[Tile]
    frames: int
    given: int  # of them, at the start
    fps: float
    chart: Picture | None
    sides: tuple[float, ...]  # of the chart's axes, from draw_psnr_of_groups()
    gif: tuple[str, bytes]

    def html(self) -> str:
        chart = ""
        if self.chart:
            chart = (f'<div class="scroll"><div class="linked" data-sides="{json.dumps(self.sides)}">{self.chart.html()}'
                     '<i class="cursor"></i></div></div>')  # fmt: skip
        return (f'<section class="player" data-frames="{self.frames}" data-given="{self.given}" data-fps="{self.fps}">'
                f"{chart}"
                f"{rows_of_tiles(self.tiles)}"
                f'<div class="controls"><button type="button">Play</button><input type="range" min="0" max="{self.frames - 1}" '
                f'value="0" aria-label="frame of {escape(self.title)}"><output>frame 0</output></div></section>')  # fmt: skip

    def markdown(self) -> str:
        names = " | ".join(tile.name for tile in self.tiles)
        gif = f"![video of {plain_markdown(self.title)}]({PICTURES}/{quote(self.gif[0])})"
        parts = [self.chart.markdown()] if self.chart else []
        return "\n\n".join([*parts, f"From left to right: {plain_markdown(names)}", gif])

    def files(self) -> dict[str, bytes]:
        return {self.gif[0]: self.gif[1]} | (self.chart.files() if self.chart else {})


class Folded(NamedTuple):
    """What few want to read: closed until it is clicked."""

    title: str
    table: Table

    def html(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary>{self.table.html()}</details>"

    def markdown(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary>\n\n{self.table.markdown()}\n\n</details>"


class Words(NamedTuple):
    """The student's own: a question, and the answer that stands in report.md."""

    name: str
    question: str
    answer: str  # Markdown; "" if there is none yet
    folder: Path  # of report.md, where the answer's own pictures are

    def html(self) -> str:
        if not self.answer:
            return f'<aside class="words"><b>Your own words:</b> {escape(self.question)}</aside>'
        tokens = MARKDOWN.parse(self.answer)
        for image in (part for token in tokens for part in token.children or [] if part.type == "image"):
            image.attrs["src"] = embedded(image.attrs["src"], self.folder)
        return f'<div class="answer">{MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})}</div>'

    def markdown(self) -> str:
        return "\n".join([BEGIN.format(self.name), self.answer or placeholder(self.question), END])


def embedded(address: str, folder: Path) -> str:
    """The picture itself in place of its address, if that is a file's, seen from `folder`."""
    kind = mimetypes.guess_type(address, strict=False)[0] or ""
    if not kind.startswith("image/"):
        return address
    try:
        content = (folder / unquote(address)).read_bytes()
    except (OSError, ValueError):  # on the web, for example, or no name of a file at all
        return address
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def placeholder(question: str) -> str:
    """What stands in report.md until there is an answer."""
    return f"> **Your own words:** {question}"


def read_answers(text: str, questions: dict[str, str]) -> dict[str, str] | None:
    """What was written between the marks of a report.md, by name of the question; None unless all marks are there."""
    found = dict(re.findall(BEGIN.format("(.+?)") + "\n(.*?)" + END, text, flags=re.DOTALL))
    if found.keys() != questions.keys() or text.count(BEGIN.split("{")[0]) != len(found) or text.count(END) != len(found):
        return None
    return {name: found[name].replace(placeholder(question), "").strip() for name, question in questions.items()}


def write_html(title: str, lead: list[Text], blocks: list) -> bytes:
    """One page that needs nothing else; the `lead` stands between title and contents."""
    links = [f'<li class="level{block.level}"><a href="#{block.anchor}">{escape(block.text)}</a></li>'
             for block in blocks if isinstance(block, Heading) and block.level < 4]  # fmt: skip
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    body = "\n".join(block.html() for block in blocks)
    header = "".join(text.html() for text in lead)
    return page.substitute(title=escape(title), lead=header, links="\n".join(links), body=body).encode(errors="replace")


def write_markdown(title: str, blocks: list) -> tuple[bytes, dict[str, bytes]]:
    """The same as Markdown, and the files that lie in PICTURES beside it."""
    files = {name: content for block in blocks if hasattr(block, "files") for name, content in block.files().items()}
    text = "\n\n".join([f"# {plain_markdown(title)}", *(block.markdown() for block in blocks)]) + "\n"
    return text.encode(errors="replace"), files
