"""Triton's clients with compressed requests against a stack that serves `digits`: `triton_compressed.py HOST:PORT`."""

import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http


def image(library):
    tensor = library.InferInput("image", [1000, 64], "FP32")
    tensor.set_data_from_numpy(np.zeros([1000, 64], np.float32))
    return [tensor]


def main(address):
    http, grpc = over_http.InferenceServerClient(address), over_grpc.InferenceServerClient(address)
    for algorithm in ("gzip", "deflate"):
        over_rest = http.infer("digits", image(over_http), "1", request_compression_algorithm=algorithm)
        called = grpc.infer("digits", image(over_grpc), "1", compression_algorithm=algorithm)
        assert over_rest.as_numpy("label").shape == called.as_numpy("label").shape == (1000,)


if __name__ == "__main__":
    main(sys.argv[1])
