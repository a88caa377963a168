"""The picture of a comparison, as SVG: per case how many times longer each peer's all_reduce takes than Weft's, by size. Both
axes are logarithmic; colours keep their contrast on light and on dark backgrounds."""
import math
from xml.sax.saxutils import escape

import cases

COLOURS = {"weft": "#8a5cf6", "openmpi": "#e8710a", "openmpi5": "#b45309", "mpich": "#0e9f8e", "gloo": "#d6336c",
           "floor": "#868e96"}
PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 380, 230, 60, 76, 70, 74
# Ratios outside are drawn at the edge; a floor is not.
LEAST, MOST = 0.25, 128

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #444c56; }
  .title { font-size: 17px; font-weight: 600; } .case { font-size: 13px; font-weight: 600; }
  .grid { stroke: #8b949e; stroke-opacity: .25; } .frame { fill: none; stroke: #8b949e; stroke-opacity: .6; }
  @media (prefers-color-scheme: dark) { text { fill: #c9d1d9; } }
"""


class Panel:
    def __init__(self, left, top, sizes):
        self.left, self.top, self.sizes = left, top, sizes

    def x(self, size):
        low, high = math.log2(self.sizes[0]), math.log2(self.sizes[-1])
        return self.left + (PANEL_WIDTH * (math.log2(size) - low) / (high - low) if high > low else PANEL_WIDTH / 2)

    def y(self, ratio):
        within = min(max(ratio, LEAST), MOST)
        return self.top + PANEL_HEIGHT * (1 - math.log(within / LEAST) / math.log(MOST / LEAST))

    def axes(self, title):
        out = [f'<rect class="frame" x="{self.left}" y="{self.top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}"/>',
               f'<text class="case" x="{self.left}" y="{self.top - 8}">{escape(title)}</text>']
        for power in range(-2, 8):
            ratio = 2.0 ** power
            if ratio > MOST:
                continue
            y = self.y(ratio)
            label = f"{ratio:g}x"
            out.append(f'<line class="grid" x1="{self.left}" y1="{y:.1f}" x2="{self.left + PANEL_WIDTH}" y2="{y:.1f}"/>')
            out.append(f'<text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        for size in self.sizes[::max(1, round(len(self.sizes) / 8))]:
            out.append(f'<text x="{self.x(size):.1f}" y="{self.top + PANEL_HEIGHT + 16}" text-anchor="middle">'
                       f'{cases.show_size(size).replace(" B", "").replace("B", "").replace(" ", "")}</text>')
        y = self.y(1)
        out.append(f'<line x1="{self.left}" y1="{y:.1f}" x2="{self.left + PANEL_WIDTH}" y2="{y:.1f}" stroke="{COLOURS["weft"]}" '
                   'stroke-width="3"/>')
        return out

    def curve(self, points, name):
        """points: [(size, median, low, high)]; the band is the interval."""
        colour = COLOURS[name]
        dash = ' stroke-dasharray="3 4"' if name == "floor" else ""
        line = " ".join(f"{self.x(size):.1f},{self.y(middle):.1f}" for size, middle, _, _ in points)
        out = []
        if name != "floor" and len(points) > 1:
            band = [f"{self.x(p[0]):.1f},{self.y(p[3]):.1f}" for p in points] + \
                   [f"{self.x(p[0]):.1f},{self.y(p[2]):.1f}" for p in reversed(points)]
            out.append(f'<polygon points="{" ".join(band)}" fill="{colour}" fill-opacity=".15"/>')
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if name != "floor":
            out += [f'<circle cx="{self.x(size):.1f}" cy="{self.y(middle):.1f}" r="3" fill="{colour}"/>'
                    for size, middle, _, _ in points]
        return out


def legend(names, left, top):
    out, x = [], left
    for name in names:
        text = {"weft": "Weft", "floor": "floor (see docs/performance.md)"}.get(name) or cases.LIBRARIES[name]
        dash = ' stroke-dasharray="3 4"' if name == "floor" else ""
        out.append(f'<line x1="{x}" y1="{top}" x2="{x + 22}" y2="{top}" stroke="{COLOURS[name]}" stroke-width="3"{dash}/>')
        out.append(f'<text x="{x + 28}" y="{top + 4}">{escape(text)}</text>')
        x += 46 + 7 * len(text)
    return out


def draw(rows, heading, collective="all_reduce", kind="f32"):
    """The picture of one collective and type; "" when there is nothing to draw."""
    chosen = [row for row in rows if row["collective"] == collective and row["type"] == kind and row["bytes"] and row["ratio"]]
    shown = list(dict.fromkeys(row["case"] for row in chosen))
    if not shown:
        return ""
    columns = min(2, len(shown))
    width = LEFT + columns * PANEL_WIDTH + (columns - 1) * GAP_X + 24
    height = TOP + math.ceil(len(shown) / columns) * (PANEL_HEIGHT + GAP_Y) - GAP_Y + 56
    names = ["weft", *[name for name in cases.PEERS if any(name in row["ratio"] for row in chosen)]]
    if any("floor_us" in row for row in chosen):
        names.append("floor")
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}" role="img">', f"<title>{escape(heading)}</title>", f"<style>{STYLE}</style>",
           f'<text class="title" x="{LEFT - 40}" y="22">{escape(heading)}</text>', *legend(names, LEFT - 40, 42),
           f'<text x="{LEFT - 40}" y="{height - 10}">Above the line of Weft: slower than Weft. Bands: 95 % intervals of the '
           f'median ratio. Points on the upper edge lie beyond {MOST}x.</text>']
    for index, case_name in enumerate(shown):
        mine = sorted((row for row in chosen if row["case"] == case_name), key=lambda row: row["bytes"])
        panel = Panel(LEFT + index % columns * (PANEL_WIDTH + GAP_X), TOP + index // columns * (PANEL_HEIGHT + GAP_Y),
                      [row["bytes"] for row in mine])
        out += panel.axes(cases.CASES[case_name].text)
        for name in names[1:]:
            if name == "floor":
                points = [(row["bytes"], *[row["floor_us"] / row["us"]["weft"]] * 3) for row in mine if "floor_us" in row]
                points = [point for point in points if point[1] >= LEAST]
            else:
                points = [(row["bytes"], *row["ratio"][name]) for row in mine if name in row["ratio"]]
            if points:
                out += panel.curve(points, name)
    out.append("</svg>")
    return "\n".join(out) + "\n"
