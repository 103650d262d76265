"""A peer as a process of its own: worker.py PEER REQUEST_FD REPLY_FD MEMORY_FD.

Reads one JSON message a line and answers each with one line:
  {"do": "hello"}                      -> {"ok": true, "peer", "versions": {name: version},
                                          "ways": {kernel: [names]}: where there are several}
  {"do": "prepare", "kernel", "dtype", "threads", "memory_first", "memory_bytes": the part of the
   memory that offsets count in, "parameters": {name: value},
   "sets": [{name: {"offset", "shape", "dtype", "written", "poison": it holds the byte 0xA5 alone}}],
   "device_sets": on a device, how many sets it makes of the one, "case": number, "way": name or null}
                                       -> {"ok": true, "arithmetic", "first": seconds of one call}
                                          or {"ok": false, "unserved": reason}. What was prepared
                                          for the other ways of the same case stays.
  {"do": "run", "way", "warm", "count", "inner"}
                                       -> {"ok": true, "seconds": [count figures]}: after `warm`
                                          untimed calls, each the mean of `inner` calls. On a device
                                          also "rest", "heat", "flush", "estimate" (tools/turn.h),
                                          and "began", "ended" of the samples in the answer
  {"do": "result", "way"}              -> {"ok": true}: the outputs of the first set are written,
                                          as its last call left them (on a device: as the call
                                          of "prepare" did)
  {"do": "ceilings"}                   -> {"ok": true, "ceilings": {kind: FLOP/s}} of a device
  {"do": "quit"}
Anything that goes wrong is answered {"ok": false, "error": text}. More than one set of buffers, or on a
device of tensors, is for cold measurements: calls rotate over them. Time is CLOCK_MONOTONIC, as in the
tool; on a device, where FOVEA_PEER_PLACE is "cuda", that of its events.
"""

import importlib
import json
import mmap
import os
import sys
import time
import traceback

from device import Launches

MODULES = {"numpy": "numpy_peer", "torch": "torch_peer", "openvino": "openvino_peer",
           "onnxruntime": "onnxruntime_peer", "mlx": "mlx_peer", "jax": "jax_peer",
           "fftw": "fftw_peer", "cupy": "cupy_peer"}
ON_DEVICE = os.environ.get("FOVEA_PEER_PLACE") == "cuda"


def timed(calls, warm, count, inner):
    clock, monotonic = time.clock_gettime_ns, time.CLOCK_MONOTONIC
    runs = [call.run for call in calls]
    samples, turn = [], 0
    for _ in range(warm):
        runs[0]()
    for _ in range(count):
        batch = [runs[(turn + i) % len(runs)] for i in range(inner)]
        turn += inner
        start = clock(monotonic)
        for run in batch:
            run()
        samples.append((clock(monotonic) - start) / (1e9 * inner))
    return samples


class Prepared:
    """The calls of one way, one a set of buffers."""

    def __init__(self, cases, calls, device):
        self.cases, self.calls, self.device = cases, calls, device
        self.launches = device and Launches(device, calls)

    def first(self):
        """Seconds of a call. On a device its results are brought back at once, for the call is then
        repeated: the first one compiles and loads."""
        if self.device:
            self.calls[0].run()
            self.calls[0].store()
            self.device.synchronize()
            for array in self.cases[0].written():
                self.device.bring_back(array)
            for call in self.calls[1:]:  # what a first call makes is made before any is captured
                call.run()
            return self.launches.seconds()
        start = time.monotonic()
        self.calls[0].run()
        return time.monotonic() - start

    def run(self, message):
        if self.device:
            return self.launches.take(message)
        return {"seconds": timed(self.calls, message.get("warm", 0), message["count"],
                                 message.get("inner", 1))}

    def store(self):
        if not self.device:
            self.calls[0].store()


class Worker:
    def __init__(self, name, memory_fd):
        self.name = name
        self.memory_fd = memory_fd
        self.memory = None
        self.mappings = {}  # by where they begin
        self.module = importlib.import_module(MODULES[name])
        self.device = self.module.device() if ON_DEVICE else None
        self.case = None
        self.prepared = {}

    def hello(self, message):
        ways = getattr(self.module, "WAYS", {}) if self.device else {}
        return {"peer": self.name, "versions": self.module.versions(), "ways": ways}

    def forget(self, case):
        """Another case, and so other memory: what is left of the last one is let go."""
        if case is not None and case == self.case:
            return
        self.case, self.prepared = case, {}
        if self.device:
            self.device.forget()

    def mapped(self, first, size):
        """That part of the memory, all pages at once: the first calls are not to pay for them. For a device, which
        copies from it once, what was mapped for a case before will do."""
        if self.device and len(self.mappings.get(first, b"")) >= size:
            return self.mappings[first]
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        memory = mmap.mmap(self.memory_fd, size, flags, offset=first) if size else bytearray()
        if self.device:
            self.mappings[first] = memory
        return memory

    def prepare(self, message):
        from case import Case, Unserved
        self.forget(message.get("case"))
        way = message.get("way")
        self.prepared.pop(way, None)
        self.memory = self.mapped(message.get("memory_first", 0), message["memory_bytes"])
        line = getattr(self.module, message["kernel"], None)
        if line is None:
            return {"ok": False, "unserved": f"no adapter for {message['kernel']}"}
        try:
            choice = {}
            cases = [Case({**message, "arguments": arguments}, self.memory, choice)
                     for arguments in message["sets"]]
            if self.device:
                self.device.poisoned = cases[0].poisoned()
            prepared = Prepared(cases, self.calls_of(line, cases, message), self.device)
            first = prepared.first()
        except Unserved as reason:
            return {"ok": False, "unserved": str(reason)}
        self.prepared[way] = prepared
        return {"arithmetic": prepared.calls[0].arithmetic, "first": first}

    def calls_of(self, line, cases, message):
        """One for each set: of those in the memory, or of those that a device makes of the only one there."""
        if not self.device:
            return [line(case) for case in cases]
        calls = []
        for number in range(message["device_sets"]):
            self.device.set = number
            calls.append(line(cases[0]))
        self.device.set = 0
        return calls

    def of_way(self, message):
        if message.get("way") not in self.prepared:
            raise RuntimeError("nothing is prepared")
        return self.prepared[message.get("way")]

    def run(self, message):
        return self.of_way(message).run(message)

    def result(self, message):
        self.of_way(message).store()
        return {}

    def ceilings(self, message):
        measure = getattr(self.module, "ceilings", None)
        return {"ceilings": measure(self.device) if measure and self.device else {}}

    def answer(self, message):
        try:
            action = {"hello": self.hello, "prepare": self.prepare, "run": self.run,
                      "result": self.result, "ceilings": self.ceilings}[message["do"]]
            return {"ok": True, **action(message)}
        except Exception as error:
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            return {"ok": False, "error": text[:300]}


def main():
    name, request_fd, reply_fd, memory_fd = sys.argv[1], *map(int, sys.argv[2:5])
    with os.fdopen(request_fd, "r") as requests, os.fdopen(reply_fd, "w") as replies:
        def say(answer):
            replies.write(json.dumps(answer) + "\n")
            replies.flush()

        try:
            worker = Worker(name, memory_fd)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            say({"ok": False, "error": text[:300]})
            return 1
        for line in requests:
            message = json.loads(line)
            if message["do"] == "quit":
                break
            say(worker.answer(message))
    return 0


if __name__ == "__main__":
    # Libraries' exit handlers may wait for thread pools; nothing here needs them.
    status = main()
    sys.stderr.flush()
    os._exit(status)
