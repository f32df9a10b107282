"""The child side of the Python backend; `main` starts it."""
