"""Reads streams of responses over gRPC."""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton


def run(grpc: str = "localhost:8001") -> dict:
    found = {}
    values = tensor("VALUES", [5, 6, 7], np.int32)
    pause = tensor("PAUSE_MS", [1], np.uint32)
    repeated = stream(grpc, "repeat", [("r", [values, pause])])
    found["repeat"] = [[answer.as_numpy("INDEX").item(), answer.as_numpy("VALUE").item()] for answer in repeated["r"]]
    several = [(str(number), [tensor("NUMBER", [number], np.int32)]) for number in (2, 0, 3, -1)]
    answers = stream(grpc, "square", several)
    found["square"] = {
        name: [one if isinstance(one, str) else one.as_numpy("COPY").item() for one in answers[name]]
        for name, _ in several
    }
    return found


def stream(grpc, model, requests):
    """What came for each request id: results, and the texts of errors."""
    arrived = queue.Queue()
    answers = {name: [] for name, _ in requests}
    with triton.InferenceServerClient(grpc) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        for name, inputs in requests:
            client.async_stream_infer(model, inputs, request_id=name, enable_empty_final_response=True)
        waiting = set(answers)
        while waiting:
            result, error = arrived.get(timeout=30)
            if error is not None:  # square refuses one request, and it is the last of its responses
                answers["-1"].append(error.message())
                waiting.discard("-1")
                continue
            response = result.get_response()
            if response.outputs:
                answers[response.id].append(result)
            if response.parameters["triton_final_response"].bool_param:
                waiting.discard(response.id)
        client.stop_stream()
    return answers


def tensor(name, values, dtype):
    array = np.array(values, dtype=dtype)
    made = triton.InferInput(name, list(array.shape), {np.int32: "INT32", np.uint32: "UINT32"}[dtype])
    made.set_data_from_numpy(array)
    return made


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
