"""Fails in the way its input asks for."""

import numpy as np
import triton_python_backend_utils as pb_utils


def pair(name="OUTPUT0", dtype=np.int32, size=2):
    return pb_utils.Tensor(name, np.arange(size, dtype=dtype))


def answer(mode):
    """The response to a mode; a mode that names an error code becomes an error of that code."""
    match mode:
        case "fine":
            return pb_utils.InferenceResponse([pair(), pair("OUTPUT1")])
        case "missing output":
            return pb_utils.InferenceResponse([pair()])
        case "unknown output":
            return pb_utils.InferenceResponse([pair(), pair("OUTPUT1"), pair("SURPRISE")])
        case "other datatype":
            return pb_utils.InferenceResponse([pair(dtype=np.int64), pair("OUTPUT1")])
        case "other shape":
            return pb_utils.InferenceResponse([pair(size=3), pair("OUTPUT1")])
        case "default code":
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("no code was given"))
        case "error beside outputs":
            return pb_utils.InferenceResponse([pair()], pb_utils.TritonError("the error wins"))
        case _:
            code = getattr(pb_utils.TritonError, mode)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"asked for {mode}", code))


class TritonPythonModel:
    def execute(self, requests):
        modes = [pb_utils.get_input_tensor_by_name(r, "MODE").as_numpy()[0].decode() for r in requests]
        match modes[0]:
            case "raise":
                raise ValueError("the model raised")
            case "raise model exception":
                raise pb_utils.TritonModelException("the model raised its own kind")
            case "return none":
                return None
            case "return too few":
                return []
            case "return a response alone":
                return answer("fine")
            case "return strings":
                return ["not a response" for _ in requests]
        return [answer(mode) for mode in modes]
