"""The local cache keeps its books exactly and never more than it may; keys tell different requests apart."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from conch.core.cache import CachedResponse, LocalCache
from conch.core.cache_key import CacheKeys
from conch.core.cache_redis import decode_entry, encode_entry
from conch.inference import InferRequest, RequestedOutput
from conch.tensor import DataType, Tensor
from conch.testing import FakeClock

_sizes = st.integers(0, 3000)
_keys = st.sampled_from([b"a", b"bb", b"ccc", b"dddd", b"eeeee"])
_steps = st.lists(st.one_of(_keys.map(lambda key: (key, None)), st.tuples(_keys, _sizes)), max_size=60)


def entry(size: int) -> CachedResponse:
    return CachedResponse((Tensor("T", DataType.UINT8, (size,), bytes(size)),), {})


@given(st.integers(0, 6000), _steps)
def test_the_local_cache_behaves_as_a_list_of_the_most_recently_used(
    capacity: int, steps: list[tuple[bytes, int | None]]
) -> None:
    cache = LocalCache(capacity, FakeClock())
    model: OrderedDict[bytes, int] = OrderedDict()

    def cost(key: bytes) -> int:
        return len(key) + entry(model[key]).byte_size

    for key, size in steps:
        if size is None:
            found: list[CachedResponse | None] = []
            cache.lookup(key, found.append)
            assert found == [entry(model[key]) if key in model else None]
            if key in model:
                model.move_to_end(key)
        else:
            cache.insert(key, entry(size))
            model.pop(key, None)
            model[key] = size
            if cost(key) > capacity:
                del model[key]
            while sum(map(cost, model)) > capacity:
                model.popitem(last=False)
        assert len(cache) == len(model)
        assert cache.used_bytes == sum(map(cost, model)) <= capacity


_names = st.text(max_size=3)
_values = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), _names)
_tensors = st.builds(
    lambda name, datatype, shape, data: Tensor(name, datatype, tuple(shape), data),
    _names,
    st.sampled_from([DataType.UINT8, DataType.BYTES, DataType.FP32]),
    st.lists(st.integers(0, 3), max_size=2),
    st.binary(max_size=4),
)
_requests = st.builds(
    lambda inputs, parameters, outputs, sequence: InferRequest(
        "m",
        "",
        tuple(inputs),
        outputs=tuple(RequestedOutput(name) for name in outputs),
        parameters=parameters,
        correlation_id=sequence,
    ),
    st.lists(_tensors, max_size=3, unique_by=lambda tensor: tensor.name),
    st.dictionaries(_names, _values, max_size=2),
    st.lists(_names, max_size=2, unique=True),
    st.one_of(st.just(0), st.integers(0, 3), _names),
)


def _identity(request: InferRequest) -> object:
    parameters = {name: (type(value), repr(value)) for name, value in request.parameters.items()}
    inputs = {tensor.name: tensor for tensor in request.inputs}
    return inputs, parameters, {output.name for output in request.outputs}, repr(request.correlation_id)


@given(_requests, _requests)
def test_requests_have_the_same_key_exactly_when_a_model_cannot_tell_them_apart(
    first: InferRequest, second: InferRequest
) -> None:
    keys = CacheKeys(b"n", ("\0 not drawn",))
    assert (keys.key(first) == keys.key(second)) == (_identity(first) == _identity(second))


@given(
    st.lists(_tensors, max_size=3), st.dictionaries(_names, _values.filter(lambda v: abs(hash(v)) < 2**62), max_size=3)
)
def test_an_entry_comes_back_from_redis_as_it_went(outputs: list[Tensor], parameters: dict[str, object]) -> None:
    sent = CachedResponse(tuple(outputs), parameters)  # type: ignore[arg-type]
    assert decode_entry(encode_entry(sent)) == sent
