"""Arrays in and out of the package: every kind, dtype and layout, and who owns what."""

import ctypes
import gc
import subprocess
import sys
import types

import numpy as np
import pytest
from library import DLDataType, DLDevice, DLTensor, needs

fovea = needs("fovea")

KINDS = ["numpy", "torch", "jax", "mlx"]
GENERATOR = np.random.default_rng(6)


def normal(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def attention(q, k, v):
    """In double precision."""
    s = np.einsum("bhqd,bhkd->bhqk", *(np.asarray(x, np.float64) for x in (q, k))) / np.sqrt(q.shape[-1])
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ np.asarray(v, np.float64)


class Kind:
    def __init__(self, name):
        self.name = name
        self.module = needs({"mlx": "mlx.core", "jax": "jax.numpy"}.get(name, name))

    def of(self, array, dtype="float32"):
        if self.name == "numpy":
            ml_dtypes = needs("ml_dtypes")
            return array.astype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
        if self.name == "torch":
            return self.module.from_numpy(array).to(getattr(self.module, dtype))
        return self.module.array(array).astype(getattr(self.module, dtype))

    def back(self, array):
        """As NumPy in single precision."""
        if self.name == "torch":
            return array.float().numpy()
        return np.asarray(array.astype(self.module.float32))

    def type(self):
        return {"numpy": np.ndarray, "torch": getattr(self.module, "Tensor", None),
                "jax": getattr(sys.modules.get("jax"), "Array", None),
                "mlx": getattr(self.module, "array", None)}[self.name]


@pytest.fixture(params=KINDS)
def kind(request):
    return Kind(request.param)


@pytest.mark.parametrize("dtype, close", [("float32", 1e-5), ("float16", 4e-3), ("bfloat16", 3e-2)])
def test_results_are_of_the_callers_kind_and_dtype(kind, dtype, close):
    q, k, v = normal(2, 4, 9, 16), normal(2, 2, 11, 16), normal(2, 2, 11, 8)
    out, lse = fovea.attention(*(kind.of(x, dtype) for x in (q, k, v)), lse=True)
    assert isinstance(out, kind.type()) and isinstance(lse, kind.type())
    assert dtype in str(out.dtype) and "float32" in str(lse.dtype)
    expected = attention(q, k.repeat(2, 1), v.repeat(2, 1))
    np.testing.assert_allclose(kind.back(out), expected, atol=close)
    assert tuple(lse.shape) == (2, 4, 9)


def test_inputs_are_not_copied_where_memory_says_so():
    x = normal(1 << 20)
    y = np.empty_like(x)
    import tracemalloc
    fovea.map_exp(x, out=y)
    tracemalloc.start()
    fovea.map_exp(x, out=y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4096


@pytest.mark.parametrize("view", [
    lambda x: x[:, :, ::2], lambda x: x[:, :, ::-1], lambda x: x.transpose(0, 2, 1), lambda x: x[1:2],
    lambda x: np.broadcast_to(x[:1, :1], x.shape), lambda x: x[:0], lambda x: x[0, 0, 0, ...],
    lambda x: np.asfortranarray(x)], ids=str)
def test_any_strides(view):
    x = view(normal(4, 6, 8))
    np.testing.assert_allclose(fovea.map_exp(x), np.exp(x), rtol=1e-6)
    if isinstance(x, np.ndarray) and x.size and 0 not in x.strides:
        y = view(np.zeros((4, 6, 8), np.float32))
        assert fovea.map_exp(x, out=y) is y
        np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)


def test_torch_views_with_strides():
    torch = needs("torch")
    x = torch.randn(3, 5, 7)
    for y in (x.transpose(0, 2), x[:, ::2], x[:1].expand(4, 5, 7), x.flatten()[3:].view(-1)):
        torch.testing.assert_close(fovea.map_exp(y), torch.exp(y), rtol=1e-6, atol=0)


def test_read_only_arrays_are_read_and_not_written():
    x = normal(8)
    x.flags.writeable = False
    np.testing.assert_allclose(fovea.map_exp(x), np.exp(x), rtol=1e-6)
    with pytest.raises(ValueError, match="y is read-only"):
        fovea.map_exp(normal(8), out=x)


def test_out_of_another_kind_is_written_and_returned():
    torch = needs("torch")
    x, y = normal(8), torch.empty(8)
    assert fovea.map_exp(x, out=y) is y
    np.testing.assert_allclose(y.numpy(), np.exp(x), rtol=1e-6)


def test_out_may_be_the_input_of_an_elementwise_kernel():
    x = normal(100)
    expected = np.exp(x)
    assert fovea.map_exp(x, out=x) is x
    np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_arrays_of_jax_are_not_written():
    jnp = needs("jax.numpy")
    with pytest.raises(ValueError, match="read-only"):
        fovea.map_exp(normal(3), out=jnp.zeros(3))


def test_masked_arrays_and_lists_are_refused():
    for wrong in (np.ma.masked_array(normal(3), mask=[0, 1, 0]), [1.0, 2.0], "text", None, 3):
        with pytest.raises(fovea.InvalidType, match="x is a "):
            fovea.map_exp(wrong)


@pytest.mark.parametrize("array, sentence", [
    (np.zeros(3, ">f4"), "dtype"), (np.zeros(3, complex), "x is c128; map_exp takes"),
    (np.zeros(3, "S4"), "no kernel takes"), (np.zeros(3, "M8[s]"), "no kernel takes"),
    (np.zeros(3, object), "no kernel takes"), (np.zeros((1,) * 9, np.float32), "9 dimensions"),
    (np.zeros(3, [("a", "f4"), ("b", "i1")])["a"], "multiple of its element size")], ids=lambda x: "")
def test_arrays_that_no_kernel_takes(array, sentence):
    with pytest.raises(fovea.InvalidValue, match=sentence):
        fovea.map_exp(array)


def test_types_that_call_while_they_are_looked_at():
    """The table of types has 16 places, which the calls within take."""

    def refused(array):
        with pytest.raises(TypeError, match="x is a "):
            fovea.map_exp(array)

    def refuse_others(count):
        for i in range(count):
            refused(type(f"Other{i}", (), {})())

    class Nested:
        @property
        def __class__(self):
            refuse_others(16)
            return int

    kept = [type(f"Kept{i}", (), {}) for i in range(16)]
    before = [sys.getrefcount(a_type) for a_type in kept]
    [refused(a_type()) for a_type in kept]
    refused(Nested())
    refuse_others(16)
    gc.collect()
    assert [sys.getrefcount(a_type) for a_type in kept] == before


def test_memory_of_extents_beyond_64_bits_is_refused():
    for shape in ((2**32, 2**32), (0, 2**40, 2**40), (2**40, 2**40, 0)):
        with pytest.raises(MemoryError):
            fovea._fovea._memory(shape, "f32")
    with pytest.raises(ValueError, match="4294967296 does not fit into 32 bits"):
        fovea._fovea._integers([1, 2**32], (2,))


def test_a_tensor_that_requires_grad_is_refused_unless_no_grad():
    torch = needs("torch")
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="requires grad"):
        fovea.map_exp(x)
    with torch.no_grad():
        assert not fovea.map_exp(x).requires_grad


def test_tensors_without_memory_are_refused():
    torch = needs("torch")
    for x in (torch.empty(3, device="meta"), torch.eye(3).to_sparse()):
        with pytest.raises(fovea.Error):
            fovea.map_exp(x)


def test_results_own_their_memory(kind):
    x = normal(1000)
    result = fovea.map_exp(kind.of(x))
    gc.collect()
    more = [fovea.map_exp(kind.of(normal(1000))) for _ in range(10)]
    np.testing.assert_allclose(kind.back(result), np.exp(x), rtol=1e-6)
    del more


def test_producers_of_the_first_version_of_dlpack_serve():
    class OfNobody:
        """An array of a library that only knows the first version of the protocol."""
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, stream=None):
            return self.array.__dlpack__()

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

        def __array_namespace__(self):
            return np

    x = normal(5)
    np.testing.assert_allclose(fovea.map_exp(OfNobody(x)), np.exp(x), rtol=1e-6)


def test_no_framework_is_imported_before_it_is_used():
    code = ("import sys, fovea\n"
            "assert not {'numpy', 'torch', 'jax', 'mlx', 'cupy', 'ml_dtypes'} & set(sys.modules)\n"
            "import numpy as np\nfovea.map_exp(np.ones(3, np.float32))\n"
            "assert not {'torch', 'jax', 'mlx', 'cupy'} & set(sys.modules)\n")
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- Devices, as they look from here -----------------------------------------------------------------


class Managed(ctypes.Structure):
    """DLManagedTensor."""
    _fields_ = [("tensor", DLTensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class OnDevice:
    """Three f32 on a device that is not there, handed over as CuPy and others hand over theirs."""

    def __init__(self, device):
        self.device, self.extents = device, (ctypes.c_int64 * 1)(3)
        self.managed = Managed(DLTensor(1 << 46, DLDevice(device, 0), 1, DLDataType(2, 32, 1), self.extents))

    def __dlpack_device__(self):
        return self.device, 0

    def __dlpack__(self, *, stream=None, max_version=None):
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return make(ctypes.addressof(self.managed), b"dltensor", None)


CUDA, OPENCL, VULKAN = 2, 4, 7


@pytest.mark.parametrize("device", [CUDA, OPENCL, VULKAN])
def test_memory_of_a_device_is_not_touched_without_its_back_end(device):
    x, host = OnDevice(device), np.ones(3, np.float32)
    calls = [lambda: fovea.map_exp(x), lambda: fovea.map_add(host, x, out=host),
             lambda: fovea.map_exp(x, out=host), lambda: fovea.map_exp(host, out=x)]
    if device != CUDA or not any(n.startswith("cuda/") for n in fovea.implementations("map_exp")):
        calls.append(lambda: fovea.map_exp(x, out=x))
    for call in calls:
        with pytest.raises((fovea.InvalidValue, fovea.Unsupported), match="device"):
            call()
    assert (host == 1).all()


@pytest.fixture
def cupy(monkeypatch):
    """A module that looks like CuPy to the package, with its memory on the host."""
    module = types.ModuleType("cupy")

    class ndarray:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, *, stream=None, max_version=None):
            return self.array.__dlpack__(max_version=max_version)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    module.ndarray, module.made = ndarray, []

    def empty(shape, dtype):
        module.made.append(ndarray(np.empty(shape, dtype)))
        return module.made[-1]

    module.empty = empty
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_results_for_cupy_are_made_by_cupy(cupy):
    x = normal(3, 5)
    y = fovea.map_exp(cupy.ndarray(x))
    assert isinstance(y, cupy.ndarray) and cupy.made == [y]
    np.testing.assert_allclose(y.array, np.exp(x), rtol=1e-6)
    out = cupy.ndarray(np.empty_like(x))
    assert fovea.map_exp(cupy.ndarray(x), out=out) is out and cupy.made == [y]
    np.testing.assert_array_equal(out.array, y.array)
