"""`auto_complete_config`: what a model may fill in, what it may not, and what becomes of the process."""

from __future__ import annotations

import pytest

from conch.backend_api import InstanceSpec, ModelSource
from conch.backends.python.instance import PythonInstance
from conch.config.schema import ModelConfig
from conch.errors import ConchError
from conch.tensor import DataType

from .conftest import IDENTITY, Workshop, arrays_of, fp32, request, run, stubs, until

EMPTY = "max_batch_size: 0"


def completing(*statements: str) -> str:
    """An identity model whose auto_complete_config does that to its argument `c`."""
    body = "".join(f"        {statement}\n" for statement in statements)
    return f"{IDENTITY}\n    @staticmethod\n    def auto_complete_config(c):\n{body}        return c\n"


ADD_INPUT = "c.add_input({'name': 'INPUT0', 'data_type': 'TYPE_FP32', 'dims': [4]})"
ADD_OUTPUT = "c.add_output({'name': 'OUTPUT0', 'data_type': 'TYPE_FP32', 'dims': [4]})"


async def complete(workshop: Workshop, source: str, config: str = EMPTY) -> ModelConfig:
    model, written = workshop.write(source, config)
    async with workshop.backend() as backend:
        return await backend.complete_config(model, written)


def test_inputs_outputs_batch_size_and_scheduler_are_filled_in(workshop: Workshop) -> None:
    async def body() -> None:
        optional = "c.add_input({'name': 'I2', 'data_type': 'TYPE_STRING', 'dims': [-1, 2], 'optional': True})"
        source = completing(ADD_INPUT, optional, ADD_OUTPUT, "c.set_max_batch_size(8)", "c.set_dynamic_batching()")
        config = await complete(workshop, source)
        first, second = config.input
        assert (first.name, first.data_type, first.dims, first.optional) == ("INPUT0", DataType.FP32, (4,), False)
        assert (second.name, second.data_type, second.dims, second.optional) == ("I2", DataType.BYTES, (-1, 2), True)
        assert [(output.name, output.dims) for output in config.output] == [("OUTPUT0", (4,))]
        assert config.max_batch_size == 8
        assert config.dynamic_batching is not None

    run(body())


def test_a_model_without_auto_complete_keeps_its_configuration(workshop: Workshop) -> None:
    async def body() -> None:
        model, written = workshop.write(IDENTITY)
        async with workshop.backend() as backend:
            assert await backend.complete_config(model, written) == written

    run(body())


def test_confirming_what_the_configuration_says_changes_nothing(workshop: Workshop) -> None:
    async def body() -> None:
        config = 'max_batch_size: 4 input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 } dynamic_batching { }'
        source = completing(ADD_INPUT, ADD_INPUT, ADD_OUTPUT, "c.set_max_batch_size(4)", "c.set_dynamic_batching()")
        completed = await complete(workshop, source, config)
        assert [tensor.name for tensor in completed.input] == ["INPUT0"]
        assert completed.max_batch_size == 4

    run(body())


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("raise ValueError('bad ac')", "ValueError: bad ac"),
        ("return None", "auto_complete_config function in model 'm' must return a valid pb.ModelConfig object."),
        (
            "c.set_max_batch_size(2)",
            "ValueError: configuration specified max_batch_size 4, but in auto-complete-config function for model 'm' "
            "specified max_batch_size 2",
        ),
        (
            "c.add_input({'name': 'A', 'data_type': 'TYPE_FP32', 'dims': [1], 'extra': 1})",
            "ValueError: input 'A' in auto-complete-config function for model 'm' contains property other than 'name', "
            "'data_type', 'dims' and 'optional'.",
        ),
        (
            "c.add_output({'name': 'A', 'data_type': 'TYPE_FP32', 'dims': [1], 'optional': True})",
            "ValueError: output 'A' in auto-complete-config function for model 'm' contains property other than "
            "'name', 'data_type' and 'dims'.",
        ),
        (
            "c.add_input({'data_type': 'TYPE_FP32', 'dims': [1]})",
            "ValueError: input in auto-complete-config function for model 'm' is missing 'name' property.",
        ),
        (
            "c.add_input({'name': 'A', 'dims': [1]})",
            "ValueError: input 'A' in auto-complete-config function for model 'm' is missing 'data_type' property.",
        ),
        (
            "c.add_output({'name': 'A', 'data_type': 'TYPE_FP32'})",
            "ValueError: output 'A' in auto-complete-config function for model 'm' is missing 'dims' property.",
        ),
        (
            "c.add_input({'name': 'INPUT0', 'data_type': 'TYPE_INT8', 'dims': [4]})",
            "ValueError: unable to load model 'm', configuration expects datatype TYPE_FP32 for input 'INPUT0', model "
            "provides TYPE_INT8",
        ),
        (
            "c.add_input({'name': 'INPUT0', 'data_type': 'TYPE_FP32', 'dims': [5]})",
            "ValueError: model 'm', tensor 'INPUT0': the model expects dims [5] but the model configuration specifies "
            "dims [4]",
        ),
        (
            "c.add_input({'name': 'INPUT0', 'data_type': 'TYPE_FP32', 'dims': [4], 'optional': True})",
            "ValueError: model 'm', tensor 'INPUT0': the model expects optional True but the model configuration "
            "specifies optional False",
        ),
        (
            "c.set_model_transaction_policy({'other': 1})",
            "ValueError: model transaction property in auto-complete-config function for model 'm' contains property "
            "other than 'decoupled'.",
        ),
        ("import os; os._exit(1)", "Stub process 'm' is not healthy."),
    ],
)
def test_a_contradiction_or_mistake_is_told_as_on_triton(workshop: Workshop, statement: str, message: str) -> None:
    async def body() -> None:
        config = 'max_batch_size: 4 input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 }'
        with pytest.raises(ConchError) as caught:
            await complete(workshop, completing(statement), config)
        assert caught.value.message == message

    run(body())


def test_a_transaction_policy_cannot_be_changed_once_set(workshop: Workshop) -> None:
    async def body() -> None:
        source = completing(
            "c.set_model_transaction_policy({'decoupled': False})",
            "c.set_model_transaction_policy({'decoupled': True})",
        )
        with pytest.raises(ConchError, match=r"trying to change decoupled property .* already set to 'False'"):
            await complete(workshop, source)

    run(body())


def test_the_scheduler_of_a_sequence_model_cannot_be_replaced(workshop: Workshop) -> None:
    async def body() -> None:
        source = completing("c.as_dict()['sequence_batching'] = {}", "c.set_dynamic_batching()")
        with pytest.raises(ConchError, match="specified scheduling_choice as 'sequence_batching'"):
            await complete(workshop, source)

    run(body())


def test_the_process_that_completed_becomes_the_first_instance(workshop: Workshop) -> None:
    async def body() -> None:
        model, written = workshop.write(completing(ADD_INPUT, ADD_OUTPUT), EMPTY)
        async with workshop.backend() as backend:
            config = await backend.complete_config(model, written)
            (spare,) = stubs()
            first, second = [
                await backend.load(InstanceSpec(model, config, f"m_0_{index}", "CPU", 0, workshop.metrics))
                for index in range(2)
            ]
            assert isinstance(first, PythonInstance) and isinstance(second, PythonInstance)
            assert first.pid == spare.pid != second.pid
            for instance in (first, second):
                assert arrays_of(await instance.execute([request(fp32(3))]))[0].tolist() == [[3]]
                await instance.close()

    run(body())


def test_a_spare_process_that_no_instance_took_is_ended(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conch.backends.python.backend._SPARE_S", 0.05)

    async def body() -> None:
        model, written = workshop.write(IDENTITY)
        async with workshop.backend() as backend:
            await backend.complete_config(model, written)
            assert len(stubs()) == 1
            await until(lambda: not stubs())

    run(body())


def test_a_second_completion_replaces_the_spare_process(workshop: Workshop) -> None:
    async def body() -> None:
        model, written = workshop.write(IDENTITY)
        async with workshop.backend() as backend:
            await backend.complete_config(model, written)
            (former,) = stubs()
            await backend.complete_config(model, written)
            await until(lambda: not former.is_running())
            assert len(stubs()) == 1

    run(body())


def test_a_spare_process_that_was_started_otherwise_is_not_used(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def body() -> None:
        model, written = workshop.write(IDENTITY)
        moved = ModelSource("m", 1, tmp_path_factory.mktemp("elsewhere"), {})
        (moved.directory / "1").mkdir()
        (moved.directory / "1" / "model.py").write_text(IDENTITY)
        async with workshop.backend() as backend:
            await backend.complete_config(model, written)
            (spare,) = stubs()
            instance = await backend.load(InstanceSpec(moved, written, "m_0_0", "CPU", 0, workshop.metrics))
            assert isinstance(instance, PythonInstance)
            assert instance.pid != spare.pid
            await instance.close()
            await until(lambda: not spare.is_running())

    run(body())
