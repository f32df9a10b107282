from conch.backends.function import Request as Request
from conch.inprocess.binding import DynamicBatcher as DynamicBatcher
from conch.inprocess.binding import ModelConfig as ModelConfig
from conch.inprocess.binding import Tensor as Tensor
from conch.inprocess.decorators import batch as batch
from conch.inprocess.decorators import sample as sample
from conch.inprocess.inference import InferenceRequest as InferenceRequest
from conch.inprocess.inference import InferenceResponse as InferenceResponse
from conch.inprocess.serve import Serve as Serve
from conch.inprocess.server import Model as Model
from conch.inprocess.server import Server as Server

__version__: str
