"""Triton's clients against a stack whose model `digits` is at zero: `triton_at_zero.py HOST:PORT`. Nothing here may wake it."""

import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException


def refused(status, message, call, *arguments):
    try:
        call(*arguments)
    except InferenceServerException as error:
        assert error.status() == status, error
        assert message in error.message(), error.message()
    else:
        raise AssertionError(f"accepted: {message}")


def main(address):
    http, grpc = over_http.InferenceServerClient(address), over_grpc.InferenceServerClient(address)
    ready = {"name": "digits", "version": "1", "state": "READY"}
    assert http.get_model_repository_index() == [{**ready, "reason": ""}]
    assert grpc.get_model_repository_index(as_json=True)["models"] == [ready]

    missing = "model 'digits' has no version '2': it is served as version 1"
    for client, library, not_found, invalid in (
        (http, over_http, "404", "400"),
        (grpc, over_grpc, "StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"),
    ):
        for version in ("", "1"):
            assert client.is_model_ready("digits", version)
        assert not client.is_model_ready("digits", "2")
        assert not client.is_model_ready("letters")
        refused(not_found, missing, client.get_model_metadata, "digits", "2")
        image = library.InferInput("image", [1, 64], "FP32")
        image.set_data_from_numpy(np.zeros([1, 64], np.float32))
        refused(not_found, missing, client.infer, "digits", [image], "2")
        refused(invalid, "by their Model objects", client.load_model, "digits")
    assert http.get_model_metadata("digits", "1")["versions"] == ["1"]
    assert list(grpc.get_model_metadata("digits", "1").versions) == ["1"]


if __name__ == "__main__":
    main(sys.argv[1])
