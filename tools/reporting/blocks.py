"""The blocks of a report. Each renders itself as HTML with embedded images, and as Markdown with image files."""

import base64
import json
import math
import re
from html import escape
from typing import NamedTuple, Protocol
from urllib.parse import quote

from tools.reporting.videos import Sprite

IMAGE_FOLDER = "pictures"  # next to report.md
MAX_TILES_PER_ROW = 6


class Block(Protocol):
    """A part of a report. Blocks with images also have files(), which returns the content of the image files by name."""

    def html(self) -> str:
        """Return the block as HTML, with embedded images."""

    def markdown(self) -> str:
        """Return the block as Markdown, which refers to image files in IMAGE_FOLDER."""


def data_uri(content: bytes) -> str:
    """Return a PNG or WebP image as a data URI."""
    kind = "png" if content.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def plain_markdown(text: str) -> str:
    """Return text in one line, with the characters escaped that Markdown would interpret."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))


class Heading(NamedTuple):
    """A heading of level 2 to 4. The table of contents lists those of level 2 and 3."""

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
    """One paragraph; `code` is a command at its end, to be copied."""

    text: str
    code: str = ""

    def html(self) -> str:
        return f"<p>{escape(self.text)}{f' <code>{escape(self.code)}</code>' if self.code else ''}</p>"

    def markdown(self) -> str:
        return plain_markdown(self.text) + (f"\n\n    {self.code}" if self.code else "")


class Table(NamedTuple):
    """Rows under a header; the first cell of each row is its name."""

    caption: str
    header: list[str]
    rows: list[list[str]]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>\n'
            for row in self.rows
        )
        # A narrow window scrolls the table, so it has a tab stop. The caption is outside, so that it does not scroll.
        label = escape(self.caption)
        return (f'<p class="caption">{label}</p><div class="scroll" tabindex="0" role="region" aria-label="{label}">'
                f'<table aria-label="{label}">\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>')  # fmt: skip

    def markdown(self) -> str:
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        cells = [[cell if i == 1 else plain_markdown(cell) for cell in line] for i, line in enumerate(lines)]
        return "\n".join([f"*{plain_markdown(self.caption)}*", "", *(f"| {' | '.join(line)} |" for line in cells)])


class Figure(NamedTuple):
    """A chart; `alt` describes it to readers who cannot see it."""

    name: str
    content: bytes  # PNG
    alt: str

    def html(self) -> str:
        return f'<figure><img class="chart" alt="{escape(self.alt)}" src="{data_uri(self.content)}"></figure>'

    def markdown(self) -> str:
        return f"![{plain_markdown(self.alt)}]({IMAGE_FOLDER}/{quote(self.name)})"

    def files(self) -> dict[str, bytes]:
        return {self.name: self.content}


class FigureRow(NamedTuple):
    """Charts next to each other, as many in a row as there is room for."""

    charts: list[Figure]

    def html(self) -> str:
        return f'<div class="charts">{"".join(chart.html() for chart in self.charts)}</div>'

    def markdown(self) -> str:
        return "\n\n".join(chart.markdown() for chart in self.charts)

    def files(self) -> dict[str, bytes]:
        return {chart.name: chart.content for chart in self.charts}


class Tile(NamedTuple):
    """One video of a player, or one still frame."""

    name: str
    caption: str
    frame: bytes  # PNG of a still frame, b"" for a video
    sprite: Sprite | None = None
    psnr: list[float | None] | None = None  # of each frame, in dB

    def html(self) -> str:
        caption = f'<figcaption><b>{escape(self.name)}</b> <span class="score">{escape(self.caption)}</span></figcaption>'
        if self.sprite is None:
            alt = f"{self.name} {self.caption}".strip()
            return f'<figure class="tile"><img alt="{escape(alt)}" src="{data_uri(self.frame)}">{caption}</figure>'
        width, height = self.sprite.size
        psnr = json.dumps(self.psnr, separators=(",", ":"))
        return (f'<figure class="tile"><canvas width="{width}" height="{height}" role="img" '
                f'aria-label="Video: {escape(self.name)}" data-columns="{self.sprite.columns}" data-psnr="{psnr}"></canvas>'
                f'<img hidden alt="" src="{data_uri(self.sprite.content)}">{caption}</figure>')  # fmt: skip


def tile_grid(tiles: list[Tile]) -> str:
    """Return the HTML of tiles in rows of equal length."""
    rows = math.ceil(len(tiles) / MAX_TILES_PER_ROW)
    return f'<div class="tiles" style="--n:{math.ceil(len(tiles) / rows)}">{"".join(tile.html() for tile in tiles)}</div>'


class Frames(NamedTuple):
    """Selected frames: {label: ground truth, pose and predictions}; in Markdown, one image with all of them."""

    rows: dict[str, list[Tile]]
    image: Figure

    def html(self) -> str:
        rows = [f'<div class="moment"><h5>{escape(label)}</h5>{tile_grid(tiles)}</div>' for label, tiles in self.rows.items()]
        return f'<div class="moments">{"".join(rows)}</div>'

    def markdown(self) -> str:
        return self.image.markdown()

    def files(self) -> dict[str, bytes]:
        return self.image.files()


class Player(NamedTuple):
    """Synchronized videos, with the chart of their PSNR if there is one; in Markdown, a GIF."""

    title: str
    tiles: list[Tile]
    frames: int
    context: int  # number of context frames, at the start
    fps: float
    chart: Figure | None
    axes_box: tuple[float, ...]  # of the chart, from draw_psnr_of_groups()
    gif: tuple[str, bytes]  # name and content

    def html(self) -> str:
        chart = ""
        if self.chart:
            chart = (f'<div class="scroll"><div class="linked" data-axes="{json.dumps(self.axes_box)}">{self.chart.html()}'
                     '<i class="cursor"></i></div></div>')  # fmt: skip
        return (f'<section class="player" data-frames="{self.frames}" data-context="{self.context}" data-fps="{self.fps}">'
                f"{chart}"
                f"{tile_grid(self.tiles)}"
                f'<div class="controls"><button type="button" aria-label="Play {escape(self.title)}">Play</button>'
                f'<input type="range" min="0" max="{self.frames - 1}" value="0" aria-label="Frame of {escape(self.title)}">'
                f"<output>frame 0</output></div></section>")  # fmt: skip

    def markdown(self) -> str:
        names = " | ".join(tile.name for tile in self.tiles)
        gif = f"![video of {plain_markdown(self.title)}]({IMAGE_FOLDER}/{quote(self.gif[0])})"
        parts = [self.chart.markdown()] if self.chart else []
        return "\n\n".join([*parts, f"From left to right: {plain_markdown(names)}", gif])

    def files(self) -> dict[str, bytes]:
        return {self.gif[0]: self.gif[1]} | (self.chart.files() if self.chart else {})


class Folded(NamedTuple):
    """A table that is collapsed until the reader clicks its title."""

    title: str
    table: Table

    def html(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary>{self.table.html()}</details>"

    def markdown(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary>\n\n{self.table.markdown()}\n\n</details>"
