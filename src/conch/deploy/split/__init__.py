"""Approach 2: a pipeline broken apart into models that an ensemble wires together."""
