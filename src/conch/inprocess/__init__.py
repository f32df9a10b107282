"""conch inside a Python program: a server without a process of its own, and Python functions as models."""
