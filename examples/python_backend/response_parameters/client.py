"""Sends parameters and reads those of the answers, over HTTP and over gRPC."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

#: The first version of Triton whose models may send parameters.
NEEDS_TRITON = (2, 53)


def run(http: str = "localhost:8000", grpc: str = "localhost:8001") -> dict:
    with triton_http.InferenceServerClient(http) as client:
        sent = {"shout": False, "greeting": "hello"}
        over_http = client.infer("annotated", [text(triton_http)], parameters=sent).get_response()["parameters"]
    with triton_grpc.InferenceServerClient(grpc) as client:
        response = client.infer("annotated", [text(triton_grpc)]).get_response()
        over_grpc = {
            key: getattr(each, each.WhichOneof("parameter_choice")) for key, each in response.parameters.items()
        }
    return {"http": over_http, "grpc": dict(sorted(over_grpc.items()))}


def text(triton):
    tensor = triton.InferInput("TEXT", [1], "BYTES")
    tensor.set_data_from_numpy(np.array(["conch"], dtype=object))
    return tensor


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))
