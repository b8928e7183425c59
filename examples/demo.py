#!/usr/bin/env python3
"""Starts KFerving on this machine, asks each example model for one prediction from zero, and shows what happened.

    make demo            stays up afterwards, until Ctrl-C
    make demo CHECK=1    stops after the predictions; exit status 1 if one is wrong

Everything here goes over HTTP, as any client's requests would.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import numpy as np
import read_text
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

EXAMPLES = pathlib.Path(__file__).resolve().parent
LOG = EXAMPLES.parent / ".cache" / "demo.log"
PRINTED_LINE = EXAMPLES / "printed-line.png"
PRINTED_TEXT = "Serverless inference, warm in 10 ms"
REQUEST_TIMEOUT_S = 60
# Beyond what `poolctl up` gives to requests in flight.
STOP_TIMEOUT_S = 60
COLD_PHASES = ("hold", "backoff", "claim", "specialize", "load", "queue", "infer")


class Wrong(Exception):
    """A prediction is not what it must be."""


def post(url: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict]:
    """The answer's body and headers."""
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


def infer(url: str, model: str, tensor: np.ndarray) -> tuple[np.ndarray, dict]:
    """The first output of a model with one input `x`, over V2 with binary tensors, and the response headers."""
    image = triton.InferInput("x", tensor.shape, "FP32")
    image.set_data_from_numpy(tensor)
    body, length = triton.InferenceServerClient.generate_request_body([image])
    headers = {"inference-header-content-length": str(length), "content-type": "application/octet-stream"}
    answer, received = post(f"{url}/v2/models/{model}/infer", body, headers)
    header_length = received.get("inference-header-content-length")
    result = triton.InferResult.from_response_body(answer, header_length=int(header_length) if header_length else None)
    return result.as_numpy(result.get_response()["outputs"][0]["name"]), received


def digits(url: str) -> tuple[str, dict]:
    held_out = json.loads((EXAMPLES / "models" / "digits-heldout.json").read_text())
    body = json.dumps({"instances": held_out["images"][:1]}).encode()
    answer, headers = post(f"{url}/v1/models/digits:predict", body, {"content-type": "application/json"})
    label = json.loads(answer)["predictions"][0]["label"]
    if label != held_out["truth"][0]:
        raise Wrong(f"said {label}, the picture is a {held_out['truth'][0]}")
    return f"the handwritten digit is a {label}", headers


def text_recognition(url: str) -> tuple[str, dict]:
    probabilities, headers = infer(url, "text-recognition", read_text.to_tensor(str(PRINTED_LINE)))
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    text = read_text.decode(probabilities[0], read_text.characters(client)).strip()
    client.close()
    if text != PRINTED_TEXT:
        raise Wrong(f"read {text!r}, the picture says {PRINTED_TEXT!r}")
    return f"the picture says {text!r}", headers


def text_detection(url: str) -> tuple[str, dict]:
    size, top = 224, 96
    picture = Image.open(PRINTED_LINE).convert("RGB")
    height = round(picture.height * size / picture.width)
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(picture.resize((size, height)), (0, top))
    pixels = np.asarray(canvas, np.float32) / 255
    scaled = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    tensor = np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis], np.float32)
    probability, headers = infer(url, "text-detection", tensor)
    rows = np.flatnonzero((probability[0, 0] > 0.5).any(axis=1))
    if rows.size == 0 or rows[0] < top - 8 or rows[-1] > top + height + 8:
        raise Wrong(f"found text in rows {rows.tolist()}, it is in rows {top} to {top + height}")
    return f"the text is in rows {rows[0]} to {rows[-1]} of {size}", headers


def show(model: str, said: str, headers: dict, elapsed_ms: float) -> None:
    phases = {}
    for entry in headers.get("server-timing", "").split(","):
        name, _, duration = entry.strip().partition(";dur=")
        phases[name] = duration
    timing = ", ".join(f"{name} {float(phases[name]):.1f}" for name in COLD_PHASES if phases.get(name))
    print(f"\n{model}: {said}")
    print(f"  device {headers.get('kferving-device')} ({headers.get('kferving-reason')}), "
          f"replica {headers.get('kferving-replica')}, {elapsed_ms:.1f} ms from zero")
    print(f"  phases in ms: {timing}", flush=True)


def predict_each(url: str) -> bool:
    """One prediction from zero of each model; whether all were right."""
    predictions: dict[str, Callable[[str], tuple[str, dict]]] = {
        "digits": digits,
        "text-recognition": text_recognition,
        "text-detection": text_detection,
    }
    all_right = True
    for model, predict in predictions.items():
        begun = time.perf_counter()
        try:
            said, headers = predict(url)
        except (Wrong, OSError, LookupError, ValueError, InferenceServerException) as error:
            detail = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
            print(f"\n{model}: WRONG: {error} {detail}", flush=True)
            all_right = False
            continue
        show(model, said, headers, (time.perf_counter() - begun) * 1000)
    return all_right


def wait_until_ready(process: subprocess.Popen) -> str:
    """The gateway's URL, from the line that `poolctl up` prints once it answers."""
    for line in process.stdout:
        if line.startswith("ready "):
            return line.split()[1]
    said = LOG.read_text().splitlines()[-5:]
    sys.exit("\n".join([*said, f"poolctl up ended with exit status {process.wait()} before it was ready; its log is {LOG}"]))


def stop(process: subprocess.Popen, told: bool) -> int:
    """Its exit status, once it has ended; where it was `told` already, another signal would make it stop at once."""
    try:
        if not told:
            process.terminate()
        return process.wait(timeout=STOP_TIMEOUT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        return process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--poolctl", required=True, help="the poolctl program")
    parser.add_argument("--check", action="store_true", help="stop after the predictions")
    arguments = parser.parse_args()

    command = [arguments.poolctl, "up", "--models", str(EXAMPLES / "models"), "--pool", "2"]
    if arguments.check:
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # On a terminal poolctl would draw its table over the answers; `poolctl top` shows the same.
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    told = False
    try:
        url = wait_until_ready(process)
        all_right = predict_each(url)
        if not arguments.check:
            image = json.dumps({"instances": json.loads((EXAMPLES / "models/digits-heldout.json").read_text())["images"][1:2]})
            print(f"\nTry it:\n  curl -i {url}/v1/models/digits:predict -d '{image}'")
            print(f"  {sys.executable} examples/read_text.py examples/printed-line.png")
            print(f"  {arguments.poolctl} top\n\nIts log is {LOG}. Ctrl-C stops it.", flush=True)
            print(f"poolctl up ended with exit status {process.wait()}; its log is {LOG}", file=sys.stderr)
    except KeyboardInterrupt:
        # On a terminal Ctrl-C reaches both of us.
        told = True
        all_right = not arguments.check
    finally:
        status = stop(process, told)
    sys.exit(0 if all_right and status == 0 else 1)


if __name__ == "__main__":
    main()
