"""Draws docs/benchmarks.svg from the tables of docs/benchmarks.md: throughput on the chat mix, and latency by load.

python3 benches/chart.py [PAGE [PICTURE]]. The standard library is enough.
"""

import re
import sys
from html import escape
from pathlib import Path

WIDTH, LEFT, BAR, ROW = 940, 300, 440, 30
STYLE = """svg { --card: #ffffff; --ink: #1a1a19; --soft: #5f5e5a; --hair: #e4e3df; --quiet: #a3a29c; --ours: #2a78d6;
font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --card: #1d1d1b; --ink: #f2f1ec; --soft: #aeada6; --hair: #34332f;
--quiet: #7d7c76; --ours: #3987e5; } }
.card { fill: var(--card); } text { fill: var(--ink); } .soft { fill: var(--soft); font-size: 12px; }
.title { font-size: 16px; font-weight: 600; } .ours { fill: var(--ours); } .theirs { fill: var(--quiet); }
.span { stroke: var(--ink); stroke-width: 1.5; }"""
NUMBER = r"\*{0,2}([\d,.]+)\*{0,2}"


def spread(cell):
    """Median, least and greatest of `median (least to greatest)`."""
    found = re.match(NUMBER + r" \(([\d,.]+) to ([\d,.]+)\)", cell)
    return [float(number.replace(",", "")) for number in found.groups()] if found else None


def table(page, heading):
    """Rows of the table whose first cell begins with the heading."""
    lines = iter(page.splitlines())
    for line in lines:
        if line.startswith("| " + heading):
            next(lines)
            rows = []
            for line in lines:
                if not line.startswith("|"):
                    return rows
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
    raise SystemExit(f"the page has no table {heading!r}")


def bars(title, under, rows, top, greatest):
    """A row for each: its name, a bar to the median, a line from least to greatest."""
    out = [f'<text class="title" x="20" y="{top}">{escape(title)}</text>']
    out.append(f'<text class="soft" x="20" y="{top + 20}">{escape(under)}</text>')
    scale = BAR / greatest
    for place, (name, (median, least, most), ours) in enumerate(rows):
        y = top + 34 + place * ROW
        out.append(f'<text x="{LEFT - 14}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        colour = "ours" if ours else "theirs"
        width = median * scale
        out.append(f'<rect class="{colour}" x="{LEFT}" y="{y + 2}" width="{width:.1f}" height="18" rx="3"/>')
        ends = f"M{LEFT + least * scale:.1f} {y + 11}H{LEFT + most * scale:.1f}"
        out.append(f'<path class="span" d="{ends}"/>')
        x = LEFT + max(width, most * scale) + 10
        out.append(f'<text x="{x:.1f}" y="{y + 15}">{median:,.0f} <tspan class="soft">({least:,.0f} to {most:,.0f})</tspan></text>')
    return out, top + 34 + len(rows) * ROW


def main():
    root = Path(__file__).resolve().parent.parent
    page = Path(sys.argv[1] if len(sys.argv) > 1 else root / "docs/benchmarks.md")
    picture = Path(sys.argv[2] if len(sys.argv) > 2 else root / "docs/benchmarks.svg")
    text = page.read_text()
    speeds = [(row[0], spread(row[1]), row[0].startswith("Aegis")) for row in table(text, "chat mix")]
    loads = []
    for row in table(text, "load, of the"):
        name = f"Aegis at {row[0]}" if row[0][0].isdigit() else row[0]
        # Beyond three quarters a queue is building: its length says how long the run was.
        if not row[0].startswith("90"):
            loads.append((name, spread(row[3]), row[0][0].isdigit()))
    first, end = bars(
        "Texts a second, chat mix, one head, two cores",
        "limit: a bare loop without Kafka; peers: Python consumers (plain, sorted, in a queue); line: least to greatest",
        speeds, 36, max(most for _, (_, _, most), _ in speeds))
    second, end = bars(
        "From produce to visible decision, 99th percentile, milliseconds",
        "open loop on the same texts, exactly once, commits each 20 ms", loads, end + 40,
        max(most for _, (_, _, most), _ in loads))
    height = end + 16
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Throughput and latency">',
           f"<style>{STYLE}</style>", f'<rect class="card" width="{WIDTH}" height="{height}" rx="10"/>']
    picture.write_text("\n".join([*out, *first, *second, "</svg>", ""]))


main()
