"""`--cache-config` texts."""

from __future__ import annotations

import pytest

from conch.config.cache_options import LocalCacheOptions, RedisCacheOptions, parse_cache_config
from conch.errors import InvalidArgumentError


def test_a_local_cache_has_a_size() -> None:
    assert parse_cache_config(["local,size=1048576"], {}) == LocalCacheOptions(1 << 20)
    assert parse_cache_config(["local,size=0"], {}) == LocalCacheOptions(0)


def test_the_last_text_wins() -> None:
    assert parse_cache_config(["local,size=1", "local,size=2"], {}) == LocalCacheOptions(2)


def test_settings_of_redis_come_in_one_text_or_in_several() -> None:
    expected = RedisCacheOptions("cache.local", port=7000, db=2, ttl=60)
    assert parse_cache_config(["redis,host=cache.local,port=7000,db=2,ttl=60"], {}) == expected
    assert (
        parse_cache_config(["redis,host=cache.local", "redis,port=7000", "redis,db=2", "redis,ttl=60"], {}) == expected
    )


def test_a_password_may_have_commas_and_equals_signs() -> None:
    options = parse_cache_config(["redis,password=a,b=c,d,host=h"], {})
    assert options == RedisCacheOptions("h", password="a,b=c,d")


def test_credentials_come_from_the_environment_unless_they_are_given() -> None:
    environment = {"TRITONCACHE_REDIS_USERNAME": "u", "TRITONCACHE_REDIS_PASSWORD": "p"}
    assert parse_cache_config(["redis,host=h"], environment) == RedisCacheOptions("h", user="u", password="p")
    assert parse_cache_config(["redis,host=h,user=v"], environment) == RedisCacheOptions("h", user="v", password="p")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["local"], "expected <cache name>,<setting>=<value>, got 'local'"),
        (["size=5"], "expected <cache name>,<setting>=<value>, got 'size=5'"),
        (["=1"], "expected <cache name>,<setting>=<value>"),
        (["local,,size=5"], "expected <cache name>,<setting>=<value>"),
        (["memcached,host=x"], "there is no cache 'memcached'; expected local or redis"),
        (["local,bytes=5"], "cache 'local' has no setting 'bytes'; it has size"),
        (["redis,port=5"], "cache 'redis' needs the setting 'host'"),
        (["local,size=10MB"], "cache 'local' expects a whole number >= 0 as size, got '10MB'"),
        (["local,size=-5"], "cache 'local' expects a whole number >= 0 as size, got '-5'"),
        (["local,size="], "cache 'local' expects a whole number >= 0 as size, got ''"),
        (["redis,host=h,port=0"], "cache 'redis' expects a whole number >= 1 as port, got '0'"),
        (["redis,host=h,port=70000"], "cache 'redis' expects a port from 1 to 65535, got 70000"),
        (["redis,host=h,socket_timeout=0"], "expects a whole number >= 1 as socket_timeout, got '0'"),
        (["local,size=1", "redis,host=h"], "found multiple cache configurations, but only a single cache is"),
    ],
    ids=str,
)
def test_a_text_that_describes_no_cache_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_cache_config(texts, {})
    assert message in str(caught.value)
