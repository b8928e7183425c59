#!/usr/bin/env python3
"""Makes the models that only tests and benchmarks use, and golden outputs of all of them.

    tiny        FP32 [N, 16] -> [N, 4], one Gemm: what a request costs apart from its inference
    resnet50    the architecture from the onnx package's test data with seeded random weights (its own are constant, so that
                every input has the same answer), its last layer scaled so that different pictures get different answers

For each model and three different inputs, .cache/golden/NAME-{0,1,2}.json says the tensors' names, types and shapes, and the
.input and .output files beside it hold their little-endian bytes, as Python's onnxruntime computed them.
"""

import json
import pathlib
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / ".cache" / "models"
GOLDEN = ROOT / ".cache" / "golden"
SEED = 7
GOLDEN_INPUTS = 3
OIP_TYPES = {"float32": "FP32", "int64": "INT64"}


def tiny() -> onnx.ModelProto:
    draw = np.random.default_rng(SEED)
    weights = {"w": draw.standard_normal((16, 4)), "b": draw.standard_normal(4)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet50() -> onnx.ModelProto:
    """The light ResNet-50 with its constant-filled weights replaced by He-scaled noise, batch statistics by plausible ones."""
    folder = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(folder / "light_resnet50.onnx")
    draw = np.random.default_rng(SEED)
    graph = model.graph
    constants = {}
    for node in list(graph.node):
        if node.op_type == "ConstantOfShape":
            shape = next(numpy_helper.to_array(t) for t in graph.initializer if t.name == node.input[0])
            constants[node.output[0]] = [int(extent) for extent in shape]
            graph.node.remove(node)
    variances = {node.input[4] for node in graph.node if node.op_type == "BatchNormalization"}
    scales = {node.input[1] for node in graph.node if node.op_type == "BatchNormalization"}
    for name, shape in constants.items():
        fan_in = max(1, int(np.prod(shape[1:])))
        if name in variances:
            value = draw.uniform(0.5, 1.5, shape)
        elif name in scales:
            value = draw.uniform(0.5, 1.0, shape)
        elif len(shape) == 1:
            value = 0.1 * draw.standard_normal(shape)
        else:
            value = draw.standard_normal(shape) * np.sqrt(2 / fan_in)
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    names = {tensor.name for tensor in kept}
    inputs = [value for value in graph.input if value.name not in names and value.name in used]
    del graph.input[:]
    graph.input.extend(inputs)
    model.ir_version = 8  # before version 4 every weight had to be an input too
    calibrate_last_layer(model)
    return model


def calibrate_last_layer(model: onnx.ModelProto) -> None:
    """Centres the logits on zero and scales them to a spread of 3 between pictures: untrained, they would differ by nothing."""
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    logits_of = onnx.ModelProto()
    logits_of.CopyFrom(model)
    del logits_of.graph.output[:]
    logits_of.graph.output.append(helper.make_tensor_value_info(gemm.output[0], TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(logits_of.SerializeToString(), providers=["CPUExecutionProvider"])
    source = model.graph.input[0].name
    logits = np.concatenate([session.run(None, {source: picture(1000 + index)})[0] for index in range(8)])
    scale = 3 / (logits - logits.mean(axis=0)).std()
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weight, bias = (tensors[name] for name in gemm.input[1:3])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(scale), weight.name))
    centred = (numpy_helper.to_array(bias) - logits.mean(axis=0)) * scale
    bias.CopyFrom(numpy_helper.from_array(centred.astype(np.float32), bias.name))


def picture(seed: int) -> np.ndarray:
    """Blotches of colour, [1, 3, 224, 224], 0..1: pure noise would look the same to a convolution whatever its seed."""
    coarse = np.random.default_rng([SEED, seed]).uniform(0, 1, (1, 3, 7, 7))
    return coarse.repeat(32, axis=2).repeat(32, axis=3).astype(np.float32)


def noise(shape: list[int], low: float, high: float) -> Callable[[int], np.ndarray]:
    return lambda seed: np.random.default_rng([SEED, seed]).uniform(low, high, shape).astype(np.float32)


def golden(name: str, path: pathlib.Path, draw: Callable[[int], np.ndarray]) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    source = session.get_inputs()[0].name
    for index in range(GOLDEN_INPUTS):
        tensor = draw(index)
        results = session.run(outputs, {source: tensor})
        described = {
            "inputs": [{"name": source, "datatype": "FP32", "shape": list(tensor.shape)}],
            "outputs": [
                {"name": output, "datatype": OIP_TYPES[result.dtype.name], "shape": list(result.shape)}
                for output, result in zip(outputs, results, strict=True)
            ],
        }
        (GOLDEN / f"{name}-{index}.json").write_text(json.dumps(described, indent=1))
        (GOLDEN / f"{name}-{index}.input").write_bytes(tensor.tobytes())
        (GOLDEN / f"{name}-{index}.output").write_bytes(b"".join(result.tobytes() for result in results))


def main() -> None:
    MODELS.mkdir(parents=True, exist_ok=True)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, model in (("tiny", tiny()), ("resnet50", resnet50())):
        onnx.checker.check_model(model)
        onnx.save(model, MODELS / f"{name}.onnx")
    golden("digits", ROOT / "examples" / "models" / "digits.onnx", noise([5, 64], 0, 16))
    golden("ppocr-rec", MODELS / "ppocr-rec.onnx", noise([2, 3, 48, 160], -1, 1))
    golden("ppocr-det", MODELS / "ppocr-det.onnx", noise([1, 3, 224, 224], -2, 2))
    golden("resnet50", MODELS / "resnet50.onnx", picture)
    golden("tiny", MODELS / "tiny.onnx", noise([3, 16], -1, 1))


if __name__ == "__main__":
    main()
