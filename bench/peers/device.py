"""A peer's turn on a CUDA device, whatever its library: the same steps as the tool's own arms take.
A library brings a Device: tensors there of arrays here, graphs, events."""

import gc
import itertools
import time

HEAT_BATCH = 5e-3  # seconds of work between two looks at the clock
SHORT, SHORT_CALLS = 50e-6, 50  # seconds of calls that are estimated by so many of them


class Device:
    """What the worker needs of a library. An event is whatever `seconds` can tell apart."""

    least_sample = 0.0  # seconds below which its clock says little
    set = 0  # of the tensors that are made; those of other sets begin as copies of the first
    poisoned = frozenset()  # addresses of arrays that hold the byte 0xA5 alone, which need not travel

    def forget(self):
        """Lets go of the tensors of the last case."""
        raise NotImplementedError

    def bring_back(self, array):
        """Copies what an array's tensor holds into the array."""
        raise NotImplementedError

    def repeated(self, run, count):
        """A function that makes so many calls, by a graph where the library has them."""
        def launch():
            for _ in range(count):
                run()
        return launch

    def synchronize(self):
        raise NotImplementedError

    def event(self):
        raise NotImplementedError

    def seconds(self, start, end):
        raise NotImplementedError

    def flush(self, count):
        """Overwrites so many bytes, so that no cache holds anything else."""
        raise NotImplementedError


def samples(device, launch, count, flush):
    """Seconds between events around each launch; all is enqueued before any is waited for."""
    pairs = []
    for _ in range(count):
        if flush:
            device.flush(flush)
        start = device.event()
        launch()
        pairs.append((start, device.event()))
    device.synchronize()
    return [device.seconds(*pair) for pair in pairs]


def heat(device, launch, seconds, each, flush):
    batch = min(max(int(HEAT_BATCH / max(each, 1e-6)), 1), 4096)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(batch):
            if flush:
                device.flush(flush)
            launch()
        device.synchronize()


class Launches:
    """The prepared calls of an arm, one a set of tensors, and the graph of so many in turns."""

    def __init__(self, device, calls):
        self.device, self.calls = device, calls
        self.held = (0, None)

    def of(self, count):
        if self.held[0] != count:
            run = self.calls[0].run
            if len(self.calls) > 1:
                turns = itertools.cycle([call.run for call in self.calls])
                run = lambda: next(turns)()
            self.held = (count, self.device.repeated(run, count))
        return self.held[1]

    def seconds(self):
        """Of one call, roughly."""
        one = min(samples(self.device, self.calls[0].run, 3, 0))
        if one > SHORT:
            return one
        return min(samples(self.device, self.of(SHORT_CALLS), 3, 0)) / SHORT_CALLS

    def take(self, turn):
        device, inner, flush = self.device, turn["inner"], turn["flush"]
        if flush:
            inner = 1
        elif inner * turn["estimate"] < device.least_sample:
            sets = len(self.calls)
            inner = (int(device.least_sample / turn["estimate"] / sets) + 1) * sets
        launch = self.calls[0].run if flush else self.of(inner)
        device.synchronize()
        gc.disable()
        try:
            time.sleep(turn["rest"])
            heat(device, launch, turn["heat"], inner * turn["estimate"], flush)
            for _ in range(turn["warm"]):
                launch()
            began = time.monotonic()
            seconds = samples(device, launch, turn["count"], flush)
            ended = time.monotonic()
        finally:
            gc.enable()
        return {"seconds": [s / inner for s in seconds], "began": began, "ended": ended}
