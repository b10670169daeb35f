"""Format measurements as Markdown tables."""

import shlex
import statistics
import sys
from typing import NamedTuple


class Row(NamedTuple):
    """One line of a table: a value per round, or no values and a note with the reason."""

    name: str
    unit: str
    values: list[float]
    note: str = ""


def format_number(value: float) -> str:
    """Return the value with three significant digits, or with all digits before the decimal point if there are more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown_table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def machine_table(machine: dict[str, str]) -> str:
    """Return the description of a machine as a Markdown table."""
    return markdown_table(["machine", ""], [list(entry) for entry in machine.items()])


def measurement_table(title: str, rows: list[Row]) -> str:
    """Return the rows as a Markdown table with a title: the median of the rounds, the smallest and the largest value."""
    lines = []
    for row in rows:
        name, median, span = row.name, row.note, ""
        if row.values:
            name += f" ({row.note})" if row.note else ""
            median = format_number(statistics.median(row.values))
        if len(row.values) > 1:
            span = f"{format_number(min(row.values))} to {format_number(max(row.values))}"
        lines.append([name, row.unit, median, span])
    return f"\n**{title}**\n\n" + markdown_table(["measured", "unit", "median", "min to max"], lines)


def command_of(program: str, argv: list[str] | None) -> str:
    """Return the command that started a benchmark, as main(argv) received it."""
    return shlex.join(["python", f"benchmarks/{program}", *(sys.argv[1:] if argv is None else argv)])
