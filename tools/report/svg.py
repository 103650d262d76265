"""A drawing as one <svg> element of the page: its colours are the page's variables, by class, so that
one drawing serves light and dark, and its texts take the page's font. Nothing comes from outside."""

from markupsafe import Markup

CHARACTER = 6.1  # the width of one in the page's font at the size of a label, about
MARKERS = {"circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "diamond": "M0-5L5 0L0 5L-5 0z",
           "square": "M-3.6-3.6H3.6V3.6H-3.6z", "triangle": "M0-5L4.8 4H-4.8z",
           "cross": "M-4-4L4 4M4-4L-4 4", "plus": "M0-5V5M-5 0H5", "bar": "M0-6V6",
           "down": "M0 5L4.8-4H-4.8z"}
DASHES = {"solid": "", "dashed": "7 4", "dotted": "2 3.5", "mixed": "9 3 2 3"}


def number(value):
    """A coordinate: a tenth of a unit is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0")


def shortened(name, limit):
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[-(limit // 2 - 1) :]}"


class Drawing:
    """Shapes in the order in which they are added. The label says to those who do not see it what the
    drawing shows; the figures themselves stand in a table beside it."""

    def __init__(self, width, height, label):
        self.width, self.height, self.label = width, height, label
        self.parts = []

    def add(self, markup, **values):
        self.parts.append(Markup(markup).format(**values))

    def line(self, x1, y1, x2, y2, kind):
        self.add('<path class="{kind}" d="M{x1} {y1}L{x2} {y2}"/>', kind=kind, x1=number(x1),
                 y1=number(y1), x2=number(x2), y2=number(y2))

    def path(self, points, kind, dash="solid"):
        steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
        dashes = Markup(' stroke-dasharray="{}"').format(DASHES[dash]) if DASHES[dash] else ""
        self.add('<path class="{kind} stroke" d="M{steps}"{dashes}/>', kind=kind, steps=steps,
                 dashes=dashes)

    def marker(self, x, y, shape, kind, title=None):
        told = Markup("<title>{}</title>").format(title) if title else ""
        self.add('<path class="{kind} {shape}" transform="translate({x} {y})" d="{d}">{told}</path>',
                 kind=kind, shape=shape, x=number(x), y=number(y), d=MARKERS[shape], told=told)

    def text(self, x, y, words, anchor="start", kind="label"):
        self.add('<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>',
                 kind=kind, x=number(x), y=number(y), anchor=anchor, words=words)

    def render(self):
        return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>').format(
            self.label, number(self.width), number(self.height), Markup("").join(self.parts))


def sample(shape, kind, dash=None):
    """A line and its marker as they are drawn, for a legend."""
    drawing = Drawing(26, 14, "")
    if dash:
        drawing.path([(0, 7), (26, 7)], kind, dash)
    if shape != "none":
        drawing.marker(13, 7, shape, kind)
    svg = drawing.render().replace('role="img" aria-label=""', 'aria-hidden="true"')
    return Markup('<span class="sample">{}</span>').format(Markup(svg))
