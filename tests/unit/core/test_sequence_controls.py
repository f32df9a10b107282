"""Correlation ids as the model takes them."""

from __future__ import annotations

import msgspec
import pytest

from conch.config.schema import SequenceControl
from conch.errors import InvalidArgumentError
from conch.inference import SEQUENCE_END, SEQUENCE_START
from conch.tensor import DataType
from conch.testing.clock import settle
from tests.unit.core.conftest import run
from tests.unit.core.test_sequence_scheduler import OLDEST, SequenceHarness, sequences


def test_a_model_that_takes_names_of_sequences_gets_the_name_and_refuses_numbers() -> None:
    async def work() -> None:
        batching = msgspec.structs.replace(OLDEST, controls=(SequenceControl("CORRID", "CORRID", DataType.BYTES),))
        harness = SequenceHarness(sequences(batching))
        answer = harness.ask(1, "seven", SEQUENCE_START | SEQUENCE_END)
        await settle()
        told = harness.instances[0].batches[0][0].input("CORRID")
        assert (told.datatype, told.shape, told.as_numpy().tolist()) == (DataType.BYTES, (1, 1), [[b"seven"]])
        await harness.release()
        await answer
        with pytest.raises(InvalidArgumentError, match="'CORRID'"):
            await harness.ask(1, 7, SEQUENCE_START)
        await harness.model.close()

    run(work())
