"""Verified compute kernels, attention first, for arrays of NumPy, PyTorch, JAX, MLX and CuPy.

Every kernel of the catalogue is a function here: its docstring has shapes, dtypes, definition,
tolerance and source. Arrays are taken as they are, whatever their strides, and results are of the
kind of the first array. No framework is imported before one of its arrays is seen."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple

from . import _fovea
from ._fovea import *
from ._fovea import version
from .cache import KVCache as KVCache

__version__ = version()


class Route(NamedTuple):
    """How a call would be served, and why."""

    implementation: str
    reason: str
    runner_up: str
    seconds: float
    runner_up_seconds: float
    measured: bool
    declined: dict[str, str]

    def __str__(self) -> str:
        sentence = f"{self.implementation}, {self.reason}"
        if self.seconds > 0:
            sentence += f": {1e3 * self.seconds:.3g} ms expected"
        if self.runner_up:
            sentence += f", then {self.runner_up}"
        return "\n".join([sentence, *(f"not {name}: {why}" for name, why in self.declined.items())])


class CallReport(NamedTuple):
    """The last call of a thread that succeeded."""

    kernel: str
    implementation: str
    seconds: float
    scratch_bytes: int
    threads: int
    arithmetic: str


class Statistics(NamedTuple):
    """Totals of a kernel over all threads since the package was imported."""

    calls: int
    failures: int
    seconds: float
    bytes: float
    implementation: str | None


def route(kernel: str, /, *arrays: Any, **options: Any) -> Route:
    """Explains how kernel(*arrays, **options) would be served, and runs nothing."""
    found = _fovea._route(kernel, *arrays, **options)
    declined = [line.partition(": ") for line in found[6].splitlines()]
    return Route(*found[:6], {name: why for name, _, why in declined})


def last_call() -> CallReport | None:
    """The calling thread's last call, or None before the first."""
    report = _fovea._last_call()
    return CallReport(*report) if report else None


def statistics() -> dict[str, Statistics]:
    """Totals of every kernel that was called. Waits for calls that other threads are in."""
    return {name: Statistics(*totals) for name, totals in _fovea._statistics().items()}


class use:
    """Forces an implementation, or limits threads, for the calls of this thread within a block:

        with fovea.use("cpu/avx2/flash"): ...
        with fovea.use(kernel="attention", implementation="cpu/scalar/textbook", threads=1): ...

    A call that the implementation does not serve raises Unsupported with the reason."""

    def __init__(self, implementation: str | None = None, *, kernel: str | None = None,
                 threads: int | None = None) -> None:
        if kernel is not None and implementation is None:
            raise _fovea.InvalidValue(f"kernel is {kernel!r}, but no implementation is named")
        self.implementation, self.kernel, self.threads = implementation, kernel, threads
        self._before: list[tuple[int, bytes]] = []

    def __enter__(self) -> use:
        before = _fovea._get_use()
        if self.threads is not None:
            _fovea._set_use(self.threads, before[1])
        if self.implementation is not None:
            try:
                _fovea._use(self.kernel, self.implementation)
            except BaseException:
                _fovea._set_use(*before)
                raise
        self._before.append(before)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        _fovea._set_use(*self._before.pop())
