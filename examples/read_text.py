#!/usr/bin/env python3
"""Reads one printed line of text from a picture with the text-recognition model behind a KFerving gateway.

    python examples/read_text.py examples/printed-line.png [--url http://127.0.0.1:8080]

It needs numpy, pillow and tritonclient[http]. The model is PP-OCRv4's recognizer: it takes a picture 48 pixels high as
[N, 3, 48, W] (BGR, scaled to -1..1) and gives for each of about W/8 steps a probability for each of 6,625 characters; index 0
is "no new character". The characters are in the model's own metadata, which the gateway hands on.
"""

import argparse

import numpy as np
import tritonclient.http as triton
from PIL import Image

HEIGHT = 48
MODEL = "text-recognition"


def to_tensor(path: str) -> np.ndarray:
    """The picture as a [1, 3, 48, W] tensor."""
    picture = Image.open(path).convert("RGB")
    width = max(1, round(picture.width * HEIGHT / picture.height))
    pixels = np.asarray(picture.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    bgr = pixels[:, :, ::-1] / 127.5 - 1
    return np.ascontiguousarray(bgr.transpose(2, 0, 1)[np.newaxis])


def characters(client: triton.InferenceServerClient) -> list[str]:
    """What each index of the output stands for."""
    metadata = client.get_model_metadata(MODEL)
    return ["", *metadata["properties"]["character"].splitlines(), " "]


def decode(probabilities: np.ndarray, alphabet: list[str]) -> str:
    """Greedy CTC: the likeliest character of each step, repeats and blanks left out."""
    steps = probabilities.argmax(axis=1)
    changed = np.concatenate(([True], steps[1:] != steps[:-1]))
    return "".join(alphabet[index] for index in steps[changed & (steps != 0)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway")
    arguments = parser.parse_args()

    client = triton.InferenceServerClient(arguments.url.removeprefix("http://"), network_timeout=120)
    tensor = to_tensor(arguments.picture)
    image = triton.InferInput("x", tensor.shape, "FP32")
    image.set_data_from_numpy(tensor)
    answer = client.infer(MODEL, [image])
    name = answer.get_response()["outputs"][0]["name"]
    print(decode(answer.as_numpy(name)[0], characters(client)).strip())


if __name__ == "__main__":
    main()
