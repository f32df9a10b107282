class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("cannot start today")

    def execute(self, requests):
        return []
