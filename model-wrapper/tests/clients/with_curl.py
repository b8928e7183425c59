"""curl against a wrapper that serves `reciprocal`: `with_curl.py HOST:PORT`.

curl asks with `Expect: 100-continue` before it sends more than a megabyte.
"""

import gzip
import json
import subprocess
import sys
import zlib

URL = f"http://{sys.argv[1]}/v2/models/reciprocal/infer"


def curl(body, *options):
    command = ["curl", "-sS", "--max-time", "120", "-w", "\n%{http_code}", "--data-binary", "@-", *options, URL]
    answer, _, status = subprocess.run(command, input=body, capture_output=True, check=True).stdout.rpartition(b"\n")
    return int(status), json.loads(answer)


def main():
    count = 600_000
    data = [1 + index % 7 for index in range(count)]
    body = json.dumps({"inputs": [{"name": "x", "shape": [count], "datatype": "FP32", "data": data}]}).encode()
    for sent, options in (
        (body, ["-H", "Expect: 100-continue"]),
        (gzip.compress(body), ["-H", "Content-Encoding: gzip"]),
        (zlib.compress(body), ["-H", "Content-Encoding: deflate"]),
        (body, ["-H", "Transfer-Encoding: chunked"]),
        (body, ["--http2-prior-knowledge"]),
    ):
        status, answer = curl(sent, *options)
        assert status == 200, answer
        [output] = answer["outputs"]
        assert output["shape"] == [count]
        assert all(abs(got * given - 1) < 1e-6 for got, given in zip(output["data"], data, strict=True))


main()
