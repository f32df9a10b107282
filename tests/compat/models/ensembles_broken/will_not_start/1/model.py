"""Does not start."""


class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("will not start")

    def execute(self, requests):
        return []
