"""Write the blocks of a report as one HTML page, and as Markdown with image files."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from tools.reporting.blocks import Block, Heading, Text, plain_markdown

TEMPLATE = Path(__file__).with_name("template.html")


def render_html(title: str, lead: Sequence[Text], blocks: Sequence[Block]) -> bytes:
    """Return one self-contained page; the `lead` is placed between the title and the table of contents."""
    links = []
    for block in blocks:
        if isinstance(block, Heading) and block.level < 4:
            links.append(f'<li class="level{block.level}"><a href="#{block.anchor}">{escape(block.text)}</a></li>')
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    body = "\n".join(block.html() for block in blocks)
    header = "".join(text.html() for text in lead)
    return page.substitute(title=escape(title), lead=header, links="\n".join(links), body=body).encode(errors="replace")


def render_markdown(title: str, blocks: Sequence[Block]) -> tuple[bytes, dict[str, bytes]]:
    """Return the report as Markdown, and the content of its image files by name."""
    files: dict[str, bytes] = {}
    for block in blocks:
        files |= block.files() if hasattr(block, "files") else {}
    text = "\n\n".join([f"# {plain_markdown(title)}", *(block.markdown() for block in blocks)]) + "\n"
    return text.encode(errors="replace"), files
