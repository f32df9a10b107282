"""The Python backend: models written as `model.py`, each instance in a child process of its own.

`backend` and `instance` implement the port; `process` starts and watches a child, `channel` and `memory` reach it,
`stub` is what runs in it.
"""
