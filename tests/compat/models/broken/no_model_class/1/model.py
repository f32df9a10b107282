"""There is no TritonPythonModel here."""
