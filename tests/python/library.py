"""The shared library through ctypes: NumPy arrays become DLTensors, options structs are read from the
generated header. For tests; it knows nothing of any kernel."""

import ctypes
import importlib
import os
import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FOVEA_BUILD", ROOT / "build" / "release")).resolve()
REFERENCE = "reference/scalar/double"


def needs(module):
    """The module, or the tests that need it are skipped; in CI, which installs it, they fail."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error} (make peers)", allow_module_level=True)


class DLDevice(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


class DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", DLDevice), ("ndim", ctypes.c_int),
                ("dtype", DLDataType), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class Error(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def tensor(array):
    """A DLTensor over the array's memory; both must stay alive."""
    codes = {"i": 0, "u": 1, "f": 2, "b": 1, "c": 5}
    special = {"bfloat16": 4, "float8_e4m3fn": 10}
    code = special.get(array.dtype.name) or codes[array.dtype.kind]
    extents = (ctypes.c_int64 * array.ndim)(*array.shape)
    strides = (ctypes.c_int64 * array.ndim)(*(s // array.itemsize for s in array.strides))
    made = DLTensor(array.ctypes.data, DLDevice(1, 0), array.ndim,
                    DLDataType(code, 8 * array.itemsize, 1), extents, strides, 0)
    made.alive = (array, extents, strides)
    return made


def options_structs():
    """The options struct of each kernel, from the header that the build generated."""
    types = {"size_t": ctypes.c_size_t, "double": ctypes.c_double, "int64_t": ctypes.c_int64,
             "int": ctypes.c_int, "bool": ctypes.c_bool}
    text = (BUILD / "generated" / "fovea" / "kernels.h").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    structs = {}
    for kernel, body in re.findall(r"typedef struct fovea_(\w+)_options \{(.*?)\}", text, re.S):
        fields = []
        for type_name, pointer, name in re.findall(r"(?:const )?(\w+) (\*?)(\w+);", body):
            fields.append((name, ctypes.POINTER(DLTensor) if pointer else types[type_name]))
        structs[kernel] = type(kernel, (ctypes.Structure,), {"_fields_": fields})
    return structs


class Library:
    def __init__(self):
        self.c = ctypes.CDLL(str(BUILD / "libfovea.so"))
        for function in ("kernel_name", "implementation_name", "last_message"):
            getattr(self.c, "fovea_" + function).restype = ctypes.c_char_p
        self.c.fovea_kernel_name.argtypes = [ctypes.c_size_t]
        self.c.fovea_implementation_name.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self.c.fovea_last_message.argtypes = [ctypes.c_void_p]
        self.c.fovea_use.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
        self.c.fovea_call.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p,
                                      ctypes.c_size_t, ctypes.c_void_p]
        self.structs = options_structs()
        self.context = ctypes.c_void_p()
        status = self.c.fovea_context_create(None, ctypes.byref(self.context))
        if status:
            raise Error(status, self.c.fovea_last_message(None).decode())

    def kernels(self):
        names = (self.c.fovea_kernel_name(i) for i in range(1000))
        return [name.decode() for name in names if name]

    def implementations(self, kernel):
        names = (self.c.fovea_implementation_name(kernel.encode(), i) for i in range(64))
        return [name.decode() for name in names if name]

    def check(self, status):
        if status:
            raise Error(status, self.c.fovea_last_message(self.context).decode())

    def call(self, kernel, *arrays, implementation=REFERENCE, **options):
        """Arrays in the order of the typed function; options by name, optional tensors as arrays."""
        values = self.structs[kernel]()
        getattr(self.c, f"fovea_{kernel}_options_default")(ctypes.byref(values))
        alive = []
        for name, value in options.items():
            if isinstance(value, np.ndarray):
                alive.append(tensor(value))
                value = ctypes.pointer(alive[-1])
            setattr(values, name, value)
        tensors = [tensor(array) for array in arrays]
        pointers = (ctypes.POINTER(DLTensor) * len(tensors))(*map(ctypes.pointer, tensors))
        name = kernel.encode()
        self.check(self.c.fovea_use(self.context, name,
                                    implementation.encode() if implementation else None))
        self.check(self.c.fovea_call(self.context, name, pointers, len(tensors),
                                     ctypes.byref(values)))
