"""All shared memory of a child."""

from __future__ import annotations

from .loans import Borrower
from .memory import SegmentPool


class ChildMemory:
    """What a child reads large tensors from and writes them to.

    Attributes:
        inputs: descriptor of the file that the server writes to.
        pool: where large tensors for the server go.
        borrower: tensors that lie where other children wrote them.
    """

    __slots__ = ("borrower", "inputs", "pool")

    def __init__(self, inputs: int, pool: SegmentPool, borrower: Borrower) -> None:
        self.inputs = inputs
        self.pool = pool
        self.borrower = borrower
