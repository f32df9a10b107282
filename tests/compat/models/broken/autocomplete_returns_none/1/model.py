class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        return None

    def execute(self, requests):
        return []
