"""The demo behind `make run`: deploy CLIP, start the server, ask it about a picture, show how to ask it yourself."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
PICTURE = EXAMPLES / "shapes-clip" / "samples" / "red-circle.png"
LABELS = ("a red circle", "a blue square", "a green triangle")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default=str(EXAMPLES / "shapes-clip"), help="hub id or checkpoint directory of a CLIP"
    )
    parser.add_argument("--once", action="store_true", help="stop after the first answer")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument(
        "--work-dir", type=Path, default=EXAMPLES.parent / ".demo", help="where the repository is written"
    )
    options = parser.parse_args()
    repository = options.work_dir / "models"
    step(1, f"deploying {options.model} into {repository}")
    conch(
        [
            "deploy",
            options.model,
            "--task=zero-shot-image-classification",
            "--name=clip",
            "--force",
            f"--model-repository={repository}",
        ]
    )
    step(2, "starting the server")
    ports = ["--http-port", str(options.http_port), "--grpc-port", str(options.grpc_port)]
    ports += ["--metrics-port", str(options.metrics_port)]
    loopback = [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
    with server(
        [*conch_command(), "serve", "--model-repository", str(repository), *loopback, *ports], options.http_port
    ) as child:
        step(3, f"asking it which of {list(LABELS)} is in {PICTURE.relative_to(EXAMPLES.parent)}")
        conch(["infer", "clip", "--url", f"localhost:{options.http_port}", *request_arguments()])
        print(snippets(options.http_port), flush=True)
        if options.once:
            return 0
        print(f"Serving on http://localhost:{options.http_port} until Ctrl-C.", flush=True)
        return wait(child)


def step(number: int, text: str) -> None:
    print(f"\n[{number}/3] {text}", flush=True)


def conch_command() -> list[str]:
    return [sys.executable, "-m", "conch"]


def conch(arguments: Sequence[str]) -> None:
    """Run a conch command; end the demo with its exit code when it fails."""
    ended = subprocess.run([*conch_command(), *arguments], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def request_arguments() -> list[str]:
    arguments = ["-i", f"image={PICTURE}"]
    for label in LABELS:
        arguments += ["-i", f"text={label}"]
    return arguments


@contextlib.contextmanager
def server(command: Sequence[str], http_port: int, limit_s: float = 300.0) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that is ready; stopped at the end."""
    child = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + limit_s
        while not is_ready(http_port):
            if child.poll() is not None:
                sys.exit(f"the server ended with {child.returncode}; is port {http_port} taken? try --http-port")
            if time.monotonic() > deadline:
                sys.exit(f"the server was not ready within {limit_s:.0f} s")
            time.sleep(0.1)
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait()


def is_ready(http_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/v2/models/clip/ready", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait(child: subprocess.Popen[bytes]) -> int:
    """Until the server ends or the user has had enough."""
    try:
        return child.wait()
    except KeyboardInterrupt:
        return 0


def snippets(http_port: int) -> str:
    """Ways to send the same request: curl, tritonclient, plain Python."""
    picture = os.path.relpath(PICTURE)
    labels = json.dumps(list(LABELS))
    return f"""
Ask it yourself.

With conch:

    conch infer clip --url localhost:{http_port} -i image={picture} -i text='a red circle' -i text='a blue square'

With curl (JSON holds text, so the picture goes in the binary part):

    python - <<'EOF' > request.bin
    import json, struct, sys
    image = open("{picture}", "rb").read(); image = struct.pack("<I", len(image)) + image
    head = json.dumps({{"inputs": [
        {{"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {{"binary_data_size": len(image)}}}},
        {{"name": "text", "datatype": "BYTES", "shape": [1, {len(LABELS)}], "data": {labels}}}]}}).encode()
    print(len(head), file=sys.stderr); sys.stdout.buffer.write(head + image)
    EOF
    curl -s localhost:{http_port}/v2/models/clip/infer --data-binary @request.bin \\
      -H "Inference-Header-Content-Length: <the number printed above>"

With tritonclient (pip install 'tritonclient[http]'):

    import numpy as np, tritonclient.http as triton
    client = triton.InferenceServerClient("localhost:{http_port}")
    image = triton.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[open("{picture}", "rb").read()]], dtype=object))
    text = triton.InferInput("text", [1, {len(LABELS)}], "BYTES")
    text.set_data_from_numpy(np.array([{labels}], dtype=object))
    answer = client.infer("clip", [image, text])
    print(answer.as_numpy("logits_per_image"), answer.as_numpy("probs"))
"""


if __name__ == "__main__":
    sys.exit(main())
