"""Triton's HTTP client against a wrapper that serves `types`: `triton_http.py HOST:PORT`."""

import sys

import numpy as np
import tritonclient.http as client
from tritonclient.utils import InferenceServerException

from tensors import ARRAYS, same


def infer(server, binary_in, binary_out, **options):
    inputs = []
    for name, array in ARRAYS.items():
        tensor = client.InferInput(name, array.shape, name)
        # BF16 and FP16 have no JSON form in this client, and not every byte string is text.
        tensor.set_data_from_numpy(array, binary_data=binary_in or name in ("BF16", "FP16", "BYTES"))
        inputs.append(tensor)
    outputs = None
    if binary_out is not None:
        outputs = [
            client.InferRequestedOutput(f"{name}_OUT", binary_data=binary_out or name in ("BF16", "FP16", "BYTES"))
            for name in reversed(ARRAYS)
        ]
    result = server.infer("types", inputs, outputs=outputs, request_id="seven", **options)
    answer = result.get_response()
    assert answer["id"] == "seven" and answer["model_name"] == "types" and answer["model_version"] == "1", answer
    if outputs is not None:
        assert [output["name"] for output in answer["outputs"]] == [output.name() for output in outputs]
    for name, array in ARRAYS.items():
        same(name, result.as_numpy(f"{name}_OUT"), array)


def refused(message, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        assert message in error.message(), error.message()
    else:
        raise AssertionError(f"accepted: {message}")


def main():
    server = client.InferenceServerClient(sys.argv[1])
    assert server.is_server_live() and server.is_server_ready()
    assert server.is_model_ready("types") and server.is_model_ready("types", "1")
    assert not server.is_model_ready("other") and not server.is_model_ready("types", "2")
    assert "binary_tensor_data" in server.get_server_metadata()["extensions"]
    metadata = server.get_model_metadata("types")
    assert {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]} == {name: name for name in ARRAYS}
    assert all(tensor["shape"] == [-1, -1] for tensor in metadata["inputs"])
    assert [model["state"] for model in server.get_model_repository_index()] == ["READY"]
    refused("neither loads nor unloads", server.load_model, "types")
    refused("neither loads nor unloads", server.unload_model, "types")
    refused("model 'other' not found", server.get_model_metadata, "other")

    for binary_in in (True, False):
        for binary_out in (None, True, False):
            infer(server, binary_in, binary_out)
    for algorithm in ("gzip", "deflate"):
        infer(server, True, True, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
        infer(server, False, False, request_compression_algorithm=algorithm)
    infer(server, True, True, headers={"x-request-timeout": "30"})

    wrong = client.InferInput("FP32", [2, 3], "FP32")
    wrong.set_data_from_numpy(np.zeros((2, 3), np.float32))
    refused("missing input", server.infer, "types", [wrong])


main()
