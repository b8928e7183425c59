#!/usr/bin/env python3
"""Trains the example classifier and writes it as ONNX, with held-out rows to check it by.

The data is scikit-learn's bundled copy of the UCI handwritten digits: 1,797 pictures of 8 x 8 grey levels from 0 to 16.
A quarter is held out. The graph is written by hand from the trained weights, so that its inputs and outputs have the names
and shapes that a person calling it wants:

    image          FP32  [N, 64]   grey levels 0..16, row by row
    label          INT64 [N]       the digit
    probabilities  FP32  [N, 10]

Run it in an environment with scikit-learn 1.9 and onnx 1.23: python examples/train_digits.py
It writes models/digits.onnx and models/digits-heldout.json beside itself and prints the held-out accuracy.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 2019
HELD_OUT_ROWS = 20
OUTPUT = pathlib.Path(__file__).parent / "models"


def to_onnx(classifier: MLPClassifier) -> onnx.ModelProto:
    (w1, w2), (b1, b2) = classifier.coefs_, classifier.intercepts_
    weights = {"full_scale": np.float32(16), "w1": w1, "b1": b1, "w2": w2, "b2": b2}
    graph = helper.make_graph(
        [
            helper.make_node("Div", ["image", "full_scale"], ["scaled"]),
            helper.make_node("Gemm", ["scaled", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10]),
        ],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="kferving")
    helper.set_model_props(model, {"data": "UCI optical recognition of handwritten digits, scikit-learn's copy"})
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    classifier = MLPClassifier(hidden_layer_sizes=(64,), max_iter=400, alpha=1e-3, random_state=SEED)
    classifier.fit(train_x / 16, train_y)
    accuracy = classifier.score(test_x / 16, test_y)

    OUTPUT.mkdir(exist_ok=True)
    onnx.save(to_onnx(classifier), OUTPUT / "digits.onnx")
    probabilities = classifier.predict_proba(test_x[:HELD_OUT_ROWS] / 16)
    held_out = {
        "accuracy": round(accuracy, 4),
        "held_out": len(test_y),
        "images": test_x[:HELD_OUT_ROWS].astype(int).tolist(),
        "truth": test_y[:HELD_OUT_ROWS].tolist(),
        "label": probabilities.argmax(axis=1).tolist(),
        "probabilities": probabilities.round(5).tolist(),
    }
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in held_out.items())
    (OUTPUT / "digits-heldout.json").write_text("{\n" + lines + "\n}\n")
    print(f"held-out accuracy {accuracy:.4f} on {len(test_y)} pictures")


if __name__ == "__main__":
    main()
