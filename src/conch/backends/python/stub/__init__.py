"""What runs in the child process of a Python-backend instance.

This directory is put on the child's `sys.path`. Nothing below it imports conch, or anything but the standard library
and numpy, so that it also runs under a foreign interpreter (EXECUTION_ENV_PATH); it keeps to the Python of 3.9.
"""
