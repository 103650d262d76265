"""CuPy: what someone with NumPy's lines does to use a GPU, the same lines over its arrays."""

import copy
import time

import cupy
import numpy_peer
from case import Unserved
from device import Device

SERVED = {"float32", "float16", "float64", "complex64", "complex128", "int8", "uint8", "int32", "uint32",
          "int64", "uint64", "bool"}
numpy_peer.np = cupy


def versions():
    return {"cupy": cupy.__version__}


class Cuda(Device):
    def __init__(self):
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.stream.use()
        self.flushed = None
        self.forget()

    def forget(self):
        self.arrays = {}  # by set and address: the copy of an array
        cupy.get_default_memory_pool().free_all_blocks()

    def copy(self, array):
        if array.dtype.name not in SERVED:
            raise Unserved(f"no {array.dtype.name}")
        address = array.__array_interface__["data"][0]
        key = self.set, address
        if key not in self.arrays:
            self.arrays[key] = self.arrays[0, address].copy() if self.set else cupy.asarray(array)
        return self.arrays[key]

    def bring_back(self, array):
        array[...] = cupy.asnumpy(self.arrays[0, array.__array_interface__["data"][0]])

    def repeated(self, run, count):
        try:
            self.stream.begin_capture()
            try:
                for _ in range(count):
                    run()
            finally:
                graph = self.stream.end_capture()
        except Exception:  # it waits for the device, or takes memory: it cannot be captured
            self.stream.synchronize()
            return super().repeated(run, count)
        return lambda: graph.launch(self.stream)

    def synchronize(self):
        self.stream.synchronize()

    def event(self):
        event = cupy.cuda.Event()
        event.record(self.stream)
        return event

    def seconds(self, start, end):
        return cupy.cuda.get_elapsed_time(start, end) / 1e3

    def flush(self, count):
        if self.flushed is None or self.flushed.size != count:
            self.flushed = cupy.empty(count, cupy.uint8)
        self.flushed.fill(1)


on_device = None


def device():
    global on_device
    on_device = Cuda()
    numpy_peer.seconds = seconds
    return on_device


def seconds(run):
    on_device.synchronize()
    start = time.perf_counter()
    run()
    on_device.synchronize()
    return time.perf_counter() - start


def __getattr__(name):
    """A kernel's line of NumPy, given the arrays of the device."""
    line = getattr(numpy_peer, name)

    def moved(case):
        there = copy.copy(case)
        there.tensors = {key: on_device.copy(array) for key, array in case.tensors.items()}
        return line(there)
    return moved
