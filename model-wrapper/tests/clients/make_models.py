"""Makes the models of the front's tests: `make_models.py FOLDER`."""

import pathlib
import sys

import onnx
from onnx import TensorProto, helper

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(folder, name, nodes, inputs, outputs, initializers=(), check=True):
    def infos(tensors):
        return [helper.make_tensor_value_info(*tensor) for tensor in tensors]

    graph = helper.make_graph(nodes, name, infos(inputs), infos(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if check:
        onnx.checker.check_model(model)
    onnx.save(model, folder / f"{name}.onnx")


def types(folder):
    """Gives back every input, one of each type."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_OUT"]) for name in TYPES]
    inputs = [(name, kind, ["n", "m"]) for name, kind in TYPES.items()]
    outputs = [(f"{name}_OUT", kind, ["n", "m"]) for name, kind in TYPES.items()]
    save(folder, "types", nodes, inputs, outputs)


def pair(folder):
    """Two inputs, two outputs: a doubled and b upside down in sign."""
    nodes = [helper.make_node("Add", ["a", "a"], ["double"]), helper.make_node("Neg", ["b"], ["minus"])]
    inputs = [("a", TensorProto.FLOAT, ["n", 2]), ("b", TensorProto.INT64, ["n"])]
    outputs = [("double", TensorProto.FLOAT, ["n", 2]), ("minus", TensorProto.INT64, ["n"])]
    save(folder, "pair", nodes, inputs, outputs)


def reciprocal(folder):
    """1/x, which is infinite at 0."""
    node = helper.make_node("Reciprocal", ["x"], ["y"])
    save(folder, "reciprocal", [node], [("x", TensorProto.FLOAT, ["n"])], [("y", TensorProto.FLOAT, ["n"])])


def text(folder):
    """Strings as they are."""
    node = helper.make_node("Identity", ["t"], ["u"])
    save(folder, "text", [node], [("t", TensorProto.STRING, ["n"])], [("u", TensorProto.STRING, ["n"])])


def unranked(folder):
    """Gives back its input, of which no shape is known, and the scalar doubled."""
    nodes = [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Add", ["s", "s"], ["twice"])]
    inputs = [("x", TensorProto.FLOAT, None), ("s", TensorProto.FLOAT, [])]
    outputs = [("same", TensorProto.FLOAT, None), ("twice", TensorProto.FLOAT, [])]
    # The checker insists on shapes where other tools leave them out.
    save(folder, "unranked", nodes, inputs, outputs, check=False)


def slow(folder):
    """As many matrix products as the input says."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "weights"], ["next"]),
            helper.make_node("Identity", ["going"], ["go"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [256, 256]),
        ],
    )
    identity = [1.0 if row == column else 0.0 for row in range(256) for column in range(256)]
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [256, 256], identity)
    nodes = [
        helper.make_node("Squeeze", ["rounds"], ["trips"]),
        helper.make_node("Loop", ["trips", "", "weights"], ["last"], body=body),
        helper.make_node("ReduceMax", ["last"], ["largest"], keepdims=0),
        helper.make_node("Unsqueeze", ["largest", "axis"], ["y"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    save(folder, "slow", nodes, [("rounds", TensorProto.INT64, [1])], [("y", TensorProto.FLOAT, [1])], [weights, axis])


if __name__ == "__main__":
    destination = pathlib.Path(sys.argv[1])
    for make in (types, pair, reciprocal, text, unranked, slow):
        make(destination)
