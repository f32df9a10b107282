"""Gives up a request that would take half a minute, and asks the model whether it noticed."""

import json
import queue
import sys
import time

import numpy as np
import tritonclient.grpc as triton


def run(grpc: str = "localhost:8001") -> dict:
    started = time.monotonic()
    before, _ = ask(grpc, 30.0)
    after, error = ask(grpc, 0.0)  # waits for the model, which is done with the first request by then
    return {
        "noticed by the model": after - before,
        "took half a minute": time.monotonic() - started > 25,
        "error": error,
    }


def ask(grpc, seconds):
    """The first response; then the request is given up. And what the stream said to that."""
    arrived = queue.Queue()
    tensor = triton.InferInput("SECONDS", [1], "FP32")
    tensor.set_data_from_numpy(np.array([seconds], dtype=np.float32))
    with triton.InferenceServerClient(grpc) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        client.async_stream_infer("patient", [tensor])
        result, error = arrived.get(timeout=60)
        if error is not None:
            raise error
        client.stop_stream(cancel_requests=seconds > 0)
        said = [each.message() for _, each in list(arrived.queue) if each is not None]
        return result.as_numpy("CANCELLED_SO_FAR").item(), "".join(said)


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
