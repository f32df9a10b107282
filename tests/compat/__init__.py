"""Golden traffic: requests and the answers a real Triton gave them, replayed against conch.

`scenarios/` writes the requests down, `record.py` asks a Triton and stores both in `golden/`, and `test_replay.py`
sends the stored requests to conch and compares. Everything that changes from run to run goes through `normalise.py`
on both sides.
"""
