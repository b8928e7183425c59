"""One array of each type of the Open Inference Protocol, with the extremes of the type."""

import ml_dtypes
import numpy as np


def integers(kind):
    limits = np.iinfo(kind)
    return np.array([[limits.min, 0, 1], [2, 3, limits.max]], kind)


ARRAYS = {
    "BOOL": np.array([[True, False, True], [False, False, True]]),
    "UINT8": integers(np.uint8),
    "UINT16": integers(np.uint16),
    "UINT32": integers(np.uint32),
    "UINT64": integers(np.uint64),
    "INT8": integers(np.int8),
    "INT16": integers(np.int16),
    "INT32": integers(np.int32),
    "INT64": integers(np.int64),
    "FP16": np.array([[0.1, -2, 65504], [6e-8, 0, 1]], np.float16),
    "BF16": np.array([[1.5, -2, 0], [3e38, 0.25, 8]], ml_dtypes.bfloat16),
    "FP32": np.array([[0.1, -2, 3.4e38], [1e-45, 0, 1 / 3]], np.float32),
    "FP64": np.array([[0.1 + 0.2, -2, 1.7e308], [5e-324, 0, 1 / 3]], np.float64),
    "BYTES": np.array([[b"a", b"", "é".encode()], [b"\x01", b"x" * 5000, b'"\\\n']], object),
}


def same(name, got, expected):
    """Equal to the last bit."""
    assert got is not None, f"{name}: missing"
    assert got.shape == expected.shape, f"{name}: {got.shape}"
    assert got.tolist() == expected.tolist(), f"{name}: {got.tolist()}"
