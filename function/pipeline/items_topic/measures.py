"""Lengths in millimetres, volumes in litres and weights in grams, from the units of the items.

A number without a unit, or in one that is not listed here, is not converted: never a guess.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MILLIMETRES = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "centimetre": 10.0,
    "m": 1000.0,
    "meter": 1000.0,
    "metre": 1000.0,
    "in": 25.4,
    "inch": 25.4,
    "inches": 25.4,
    "ft": 304.8,
    "foot": 304.8,
    "feet": 304.8,
}
_GRAMS = {
    "g": 1.0,
    "gram": 1.0,
    "kg": 1000.0,
    "kilogram": 1000.0,
    "lb": 453.59237,
    "pound": 453.59237,
    "oz": 28.349523125,
    "ounce": 28.349523125,
}
_CUBIC_MILLIMETRES_PER_LITRE = 1_000_000
_LARGEST = 1e15  # of a number that can be meant; beyond 2^53, JSON readers round it
_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class Box:
    """The sides of a box in millimetres; None where one is not known."""

    width_mm: float | None = None
    height_mm: float | None = None
    depth_mm: float | None = None

    @property
    def volume_l(self) -> float | None:
        """Its volume in litres; None unless all sides are known."""
        if self.width_mm is None or self.height_mm is None or self.depth_mm is None:
            return None
        volume = self.width_mm * self.height_mm * self.depth_mm / _CUBIC_MILLIMETRES_PER_LITRE
        return round(volume, _DECIMALS) if volume <= _LARGEST else None


def read_box(dimensions: object) -> Box | None:
    """The box of a step's `dimensions`; None where no side of it is known."""
    if not isinstance(dimensions, dict):
        return None
    factor = _factor(dimensions.get("unit"), _MILLIMETRES)
    box = Box(*(_converted(dimensions.get(side), factor) for side in ("width", "height", "depth")))
    return None if box == Box() else box


def read_weight(step: Mapping[str, Any]) -> float | None:
    """The weight of a weighing step in grams."""
    return _converted(step.get("weight"), _factor(step.get("unit"), _GRAMS))


def _factor(unit: object, factors: Mapping[str, float]) -> float | None:
    """What a number in this unit is multiplied by. Plurals and capital letters are accepted."""
    if not isinstance(unit, str):
        return None
    name = unit.strip().rstrip(".").casefold()
    return factors.get(name) or factors.get(name.removesuffix("s"))


def _converted(number: object, factor: float | None) -> float | None:
    if factor is None or isinstance(number, bool) or not isinstance(number, int | float):
        return None
    if abs(number) > _LARGEST or not math.isfinite(number):
        return None
    converted = round(number * factor, _DECIMALS)
    return converted if 0 <= converted <= _LARGEST else None
