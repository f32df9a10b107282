"""Tries what a response sender refuses, and answers with the refusals through it."""

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self.answer(request)

    def answer(self, request):
        sender = request.get_response_sender()
        decoupled = request.get_response_sender() is sender and self.decoupled
        told = [str(request.is_cancelled()), str(sender.is_cancelled())]
        told.append(self.attempt(sender.send, None))
        told.append(self.attempt(sender.send, self.response("seven"), 7))
        if decoupled:
            sender.send(self.response(*told))
            told = [self.attempt(sender.send, self.response("second"))]
            sender.send(self.response(*told), FINAL)
        else:
            told.append(self.attempt(sender.send, None, FINAL))
            sender.send(self.response(*told), FINAL)

    def initialize(self, args):
        self.decoupled = args["model_name"] == "twofold"

    def attempt(self, function, *arguments):
        try:
            return str(function(*arguments))
        except pb_utils.TritonModelException as error:
            return str(error)

    def response(self, *texts):
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", np.array(texts, dtype=np.object_))])
