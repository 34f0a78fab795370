"""Draws a box to scale, in isometric projection, which keeps the ratios of all three sides."""

import math
from dataclasses import dataclass

from operate.view.scan import Sides

WIDTH, HEIGHT = 360, 260  # of the drawing, in its own units
_MARGIN = 34  # for the labels
_COS, _SIN = math.cos(math.radians(30)), math.sin(math.radians(30))

_Point = tuple[float, float]


@dataclass(frozen=True)
class Label:
    """A text and its position; `anchor` is SVG's text-anchor."""

    text: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Drawing:
    """The three visible faces (points of SVG polygons), the labels, and a scale.

    `scale_from` and `scale_to` are the ends of the scale, at the bottom of the drawing.
    """

    top: str
    front: str
    side: str
    labels: list[Label]
    scale_from: float
    scale_to: float


def draw(sides: Sides) -> Drawing:
    """The box with its width to the right, its depth to the left, and a scale of a round length."""
    width, height, depth, unit = sides
    across, up = (width + depth) * _COS, height + (width + depth) * _SIN
    factor = min((WIDTH - 2 * _MARGIN) / across, (HEIGHT - 2 * _MARGIN) / up)
    w, h, d = width * factor, height * factor, depth * factor
    # The nearest corner at the bottom; all others are to the left, to the right and above.
    x = (WIDTH - across * factor) / 2 + d * _COS
    y = HEIGHT - _MARGIN
    right, left = (x + w * _COS, y - w * _SIN), (x - d * _COS, y - d * _SIN)
    near, near_top = (x, y), (x, y - h)
    right_top, left_top = (right[0], right[1] - h), (left[0], left[1] - h)
    far_top = (right_top[0] - d * _COS, right_top[1] - d * _SIN)
    length = _round_length(min(max(width, height, depth), (WIDTH / 3) / factor))
    return Drawing(
        top=_points(near_top, right_top, far_top, left_top),
        front=_points(near, right, right_top, near_top),
        side=_points(near, left, left_top, near_top),
        labels=[
            Label(f"width {width:g}", (x + right[0]) / 2 + 6, (y + right[1]) / 2 + 12, "start"),
            Label(f"depth {depth:g}", (x + left[0]) / 2 - 6, (y + left[1]) / 2 + 12, "end"),
            Label(f"height {height:g}", right[0] + 4, (right[1] + right_top[1]) / 2, "start"),
            Label(f"{length:g} {unit}".rstrip(), 8, HEIGHT - 20, "start"),
        ],
        scale_from=8,
        scale_to=8 + length * factor,
    )


def _round_length(longest: float) -> float:
    """The largest of 1, 2, 5, 10, 20, 50 ... that does not exceed a length."""
    tens = 10.0 ** math.floor(math.log10(longest))
    return float(max(tens * step for step in (1, 2, 5) if tens * step <= longest * (1 + 1e-9)))


def _points(*points: _Point) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
