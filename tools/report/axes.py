"""From figures to places along an axis, and the round figures that are written beside it."""

import math


class Axis:
    """Maps [low, high] to [start, end]. Ticks are (value, text)."""

    def __init__(self, low, high, start, end, logarithmic=False, text=None):
        self.logarithmic, self.start, self.end = logarithmic, start, end
        self.text = text or (lambda value: f"{value:g}")
        self.low, self.high = low, high

    def turn(self, value):
        return math.log10(value) if self.logarithmic else value

    def place(self, value):
        low, high = self.turn(self.low), self.turn(self.high)
        share = (self.turn(value) - low) / (high - low) if high > low else 0.5
        return self.start + min(1, max(0, share)) * (self.end - self.start)

    def ticks(self, most):
        values = powers(self.low, self.high, most) if self.logarithmic else steps(
            self.low, self.high, most)
        return [(value, self.text(value)) for value in values]


class ShareAxis(Axis):
    """Shares from 0 on, at even distances below 1 % and logarithmic above: most are small, a few far off."""

    SHOWN = (0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)

    def __init__(self, high, start, end):
        super().__init__(0, min(max(high, 0.1), self.SHOWN[-1]), start, end, False,
                         lambda value: f"{100 * value:g} %")

    def turn(self, value):
        return math.log1p(value / 0.01)

    def ticks(self, most):
        return [(value, self.text(value)) for value in self.SHOWN if value <= self.high]


def steps(low, high, most):
    """Whole multiples of 1, 2 or 5 times a power of ten, at most so many."""
    span = high - low
    if not span > 0:
        return [low]
    rough = 10 ** math.floor(math.log10(span / most))
    step = next(rough * factor for factor in (1, 2, 5, 10, 20) if span / (rough * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, first + most + 2) if step * i <= high * (1 + 1e-9)]


def powers(low, high, most):
    """Powers of ten, thinned out where there are many, with 2 and 5 between where there are few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / most))
    factors = (1, 2, 5) if last - first < 1 else (1, 3) if last - first < 2 else (1,)
    values = [factor * 10.0**power for power in range(first - 1, last + 1, stride)
              for factor in factors]
    values = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return values if len(values) > 1 else steps(low, high, most)


def around(values, least=None, margin=1.15):
    """Limits of a logarithmic axis that shows all of them, and those of `least`."""
    shown = [*values, *(least or ())]
    return min(shown) / margin, max(shown) * margin
