"""A peer as a process of its own: worker.py PEER REQUEST_FD REPLY_FD MEMORY_FD.

Reads one JSON message a line and answers each with one line:
  {"do": "hello"}                      -> {"ok": true, "peer", "versions": {name: version}}
  {"do": "prepare", "kernel", "dtype", "threads", "memory_bytes", "parameters": {name: value},
   "sets": [{name: {"offset", "shape", "dtype"}}]}
                                       -> {"ok": true, "arithmetic", "first": seconds of one call}
                                          or {"ok": false, "unserved": reason}
  {"do": "run", "warm", "count", "inner"}
                                       -> {"ok": true, "seconds": [count figures]}: after `warm`
                                          untimed calls, each the mean of `inner` calls
  {"do": "result"}                     -> {"ok": true}: the outputs of the first set are written,
                                          as its last call left them
  {"do": "quit"}
Anything that goes wrong is answered {"ok": false, "error": text}. More than one set of buffers is for
cold measurements: calls rotate over them. Time is CLOCK_MONOTONIC, as in the tool.
"""

import importlib
import json
import mmap
import os
import sys
import time
import traceback

MODULES = {"numpy": "numpy_peer", "torch": "torch_peer", "openvino": "openvino_peer",
           "onnxruntime": "onnxruntime_peer", "mlx": "mlx_peer", "jax": "jax_peer",
           "fftw": "fftw_peer"}


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


class Worker:
    def __init__(self, name, memory_fd):
        self.name = name
        self.memory_fd = memory_fd
        self.memory = None
        self.module = importlib.import_module(MODULES[name])
        self.calls = []

    def hello(self, message):
        return {"peer": self.name, "versions": self.module.versions()}

    def prepare(self, message):
        from case import Case, Unserved
        self.calls = []
        size = message["memory_bytes"]
        self.memory = mmap.mmap(self.memory_fd, size) if size else bytearray()
        line = getattr(self.module, message["kernel"], None)
        if line is None:
            return {"ok": False, "unserved": f"no adapter for {message['kernel']}"}
        try:
            choice = {}
            calls = [line(Case({**message, "arguments": arguments}, self.memory, choice))
                     for arguments in message["sets"]]
            start = time.monotonic()
            calls[0].run()
            first = time.monotonic() - start
        except Unserved as reason:
            return {"ok": False, "unserved": str(reason)}
        self.calls = calls
        return {"arithmetic": calls[0].arithmetic, "first": first}

    def run(self, message):
        if not self.calls:
            raise RuntimeError("nothing is prepared")
        return {"seconds": timed(self.calls, message.get("warm", 0), message["count"],
                                 message.get("inner", 1))}

    def result(self, message):
        self.calls[0].store()
        return {}

    def answer(self, message):
        try:
            action = {"hello": self.hello, "prepare": self.prepare, "run": self.run,
                      "result": self.result}[message["do"]]
            return {"ok": True, **action(message)}
        except Exception as error:
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            return {"ok": False, "error": text[:300]}


def limit_processors():
    """Libraries that have no setting for threads see as many processors as there are threads."""
    threads = int(os.environ.get("FOVEA_PEER_THREADS", "0"))
    allowed = sorted(os.sched_getaffinity(0))
    if 0 < threads < len(allowed):
        os.sched_setaffinity(0, allowed[:threads])


def main():
    name, request_fd, reply_fd, memory_fd = sys.argv[1], *map(int, sys.argv[2:5])
    limit_processors()
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
