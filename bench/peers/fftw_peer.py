"""FFTW by pyfftw: plans are measured once a case (FFTW_MEASURE, as its manual recommends for transforms that
are repeated), outside the timer, on buffers of their own, since planning overwrites what it is given."""

import numpy as np
import pyfftw
from case import Call, Unserved

PLANNING_SECONDS = 10


def versions():
    return {"fftw": pyfftw.fftw_version.split()[0], "pyfftw": pyfftw.__version__}


def planned(case, source, target, inverse=False):
    x, y = case.arrays(source, target)
    if x.size == 0:
        raise Unserved("nothing to transform")
    buffers = [pyfftw.empty_aligned(a.shape, a.dtype, n=pyfftw.simd_alignment) for a in (x, y)]
    aligned = all(pyfftw.is_byte_aligned(a, n=pyfftw.simd_alignment) for a in (x, y))
    plan = pyfftw.FFTW(*buffers, axes=(-1,), threads=case.threads,
                       direction="FFTW_BACKWARD" if inverse else "FFTW_FORWARD",
                       flags=("FFTW_MEASURE",) + (() if aligned else ("FFTW_UNALIGNED",)),
                       planning_timelimit=PLANNING_SECONDS)
    plan.update_arrays(x, y)
    if not inverse:
        return Call(plan.execute)
    scale = y.real.dtype.type(1 / x.shape[-1])

    def run():
        plan.execute()
        np.multiply(y, scale, out=y)
    return Call(run)


def fft(case):
    return planned(case, "z", "Z", case.parameters["direction"] == "inverse")


def fft_real(case):
    return planned(case, "x", "X")
