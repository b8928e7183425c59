"""Triton's gRPC client against wrappers that serve `types`, `pair` and `slow`: `triton_grpc.py TYPES PAIR SLOW`, each HOST:PORT."""

import queue
import sys

import grpc
import numpy as np
import tritonclient.grpc as client
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tensors import ARRAYS, same


def tensors():
    inputs = []
    for name, array in ARRAYS.items():
        tensor = client.InferInput(name, array.shape, name)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def check(result, names):
    answer = result.get_response()
    assert answer.id == "seven" and answer.model_name == "types" and answer.model_version == "1"
    assert [output.name for output in answer.outputs] == [f"{name}_OUT" for name in names]
    for name in names:
        same(name, result.as_numpy(f"{name}_OUT"), ARRAYS[name])


def refused(code, message, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", error
        assert message in error.message(), error.message()
    else:
        raise AssertionError(f"accepted: {message}")


def typed(address):
    """Typed contents, which Triton's client never sends: they are answered with typed contents."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))
    request = service_pb2.ModelInferRequest(model_name="pair", id="typed")
    a = request.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    a.contents.fp32_contents.extend([1.5, -2])
    b = request.inputs.add(name="b", datatype="INT64", shape=[1])
    b.contents.int64_contents.append(7)
    answer = stub.ModelInfer(request)
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp32_contents) == [3, -4]
    assert list(answer.outputs[1].contents.int64_contents) == [-7]


def stream(server):
    results = queue.Queue()
    server.start_stream(callback=lambda result, error: results.put((result, error)))
    for _ in range(3):
        server.async_stream_infer("types", tensors(), request_id="seven")
    server.async_stream_infer("other", tensors(), request_id="wrong")
    for _ in range(3):
        result, error = results.get(timeout=60)
        assert error is None, error
        check(result, list(ARRAYS))
    _, error = results.get(timeout=60)
    assert "model 'other' not found" in error.message(), error
    server.stop_stream()


def deadline(address):
    """The server gives up with the caller: another run gets its turn."""
    server = client.InferenceServerClient(address)

    def rounds(count):
        tensor = client.InferInput("rounds", [1], "INT64")
        tensor.set_data_from_numpy(np.array([count], np.int64))
        return [tensor]

    refused("DEADLINE_EXCEEDED", "", server.infer, "slow", rounds(10**12), client_timeout=0.2)
    assert server.infer("slow", rounds(1)).as_numpy("y").tolist() == [1]


def main():
    server = client.InferenceServerClient(sys.argv[1])
    assert server.is_server_live() and server.is_server_ready()
    assert server.is_model_ready("types") and server.is_model_ready("types", "1")
    assert not server.is_model_ready("other") and not server.is_model_ready("types", "2")
    assert "binary_tensor_data" in server.get_server_metadata().extensions
    metadata = server.get_model_metadata("types")
    assert {tensor.name: tensor.datatype for tensor in metadata.inputs} == {name: name for name in ARRAYS}
    assert [model.state for model in server.get_model_repository_index().models] == ["READY"]
    refused("INVALID_ARGUMENT", "neither loads nor unloads", server.load_model, "types")
    refused("NOT_FOUND", "model 'other' not found", server.get_model_metadata, "other")
    refused("UNIMPLEMENTED", "/ModelConfig is not served", server.get_model_config, "types")
    refused("UNIMPLEMENTED", "ModelMetadata says what a model takes and gives", server.get_inference_statistics, "types")
    refused("NOT_FOUND", "no version '2'", server.infer, "types", tensors(), model_version="2")

    check(server.infer("types", tensors(), request_id="seven"), list(ARRAYS))
    wanted = ["FP64", "BYTES", "BOOL"]
    outputs = [client.InferRequestedOutput(f"{name}_OUT") for name in wanted]
    check(server.infer("types", tensors(), outputs=outputs, request_id="seven", client_timeout=60), wanted)
    for algorithm in ("gzip", "deflate"):
        check(server.infer("types", tensors(), request_id="seven", compression_algorithm=algorithm), list(ARRAYS))
    stream(server)

    wrong = client.InferInput("FP32", [2, 3], "FP32")
    wrong.set_data_from_numpy(np.zeros((2, 3), np.float32))
    refused("INVALID_ARGUMENT", "missing input", server.infer, "types", [wrong])
    missing = [client.InferRequestedOutput("nothing")]
    refused("INVALID_ARGUMENT", "unknown output 'nothing'", server.infer, "types", tensors(), outputs=missing)
    typed(sys.argv[2])
    deadline(sys.argv[3])


main()
