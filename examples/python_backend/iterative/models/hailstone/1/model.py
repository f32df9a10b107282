"""One step of a computation at each execution; a request that is not done is scheduled again."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.running = {}  # correlation id, which the server chooses: number, steps so far

    def execute(self, requests):
        responses = []
        for request in requests:
            sequence = request.correlation_id()
            first = int(pb_utils.get_input_tensor_by_name(request, "NUMBER").as_numpy()[0, 0])
            number, steps = self.running.get(sequence, (first, 0))
            if number > 1:
                self.running[sequence] = (number // 2 if number % 2 == 0 else 3 * number + 1, steps + 1)
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                responses.append(None)
                continue
            self.running.pop(sequence, None)
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("STEPS", np.array([[steps]], dtype=np.int64))])
            )
        return responses
