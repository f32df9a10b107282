class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        raise ValueError("cannot complete this")

    def execute(self, requests):
        return []
