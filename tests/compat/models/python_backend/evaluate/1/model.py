"""Runs lines of Python and tells what each expression is, or what it raised: how the API behaves, seen by a model."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        known = {"pb_utils": pb_utils, "np": np, "json": json, "request": request, "args": self.args}
        codes = pb_utils.get_input_tensor_by_name(request, "CODE").as_numpy()
        said = [self.outcome(code.decode(), known) for code in codes]
        return pb_utils.InferenceResponse([pb_utils.Tensor("SAID", np.array(said, dtype=np.object_))])

    def outcome(self, code, known):
        """What the last expression is, after the statements before it."""
        *statements, expression = code.rsplit("\n", 1)
        try:
            exec("\n".join(statements), known)
            value = eval(expression, known)
            return f"{type(value).__name__}: {value!r}"
        except TypeError:  # its text is that of the binding
            return "raised TypeError"
        except BaseException as error:
            return f"raised {type(error).__name__}: {error}"
