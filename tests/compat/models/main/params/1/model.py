"""Answers what a request says beside its tensors; parameters as JSON with sorted keys."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


def text(name, value):
    return pb_utils.Tensor(name, np.array([str(value).encode()], dtype=np.object_))


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            outputs = [
                text("PARAMETERS", json.dumps(json.loads(request.parameters() or "null"), sort_keys=True)),
                text("ID", request.request_id()),
                pb_utils.Tensor("FLAGS", np.array([request.flags()], dtype=np.uint32)),
                text("CORRELATION_ID", repr(request.correlation_id())),
                pb_utils.Tensor("TIMEOUT", np.array([request.timeout()], dtype=np.uint64)),
                text("REQUESTED", ",".join(sorted(request.requested_output_names()))),
            ]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
