"""What can be deployed, as a table that a command makes: every architecture of `tests.checkpoints` by both approaches.

    python -m tests.coverage --resume

Each case runs in a process of its own (`tests.coverage.case`), since checkpoints differ in what they load, break and
leak; its outcome is kept in a JSON file at once, so that an interrupted run goes on where it stopped.
"""
