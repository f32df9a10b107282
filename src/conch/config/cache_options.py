"""`--cache-config` as a value: which response cache there is, and how it is set up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from conch.errors import InvalidArgumentError

#: Size of the local cache where the command line names none: models that ask for a cache get one.
DEFAULT_CACHE_BYTES = 64 << 20

_EXAMPLE = "e.g. --cache-config=local,size=67108864 (bytes) or --cache-config=redis,host=localhost,port=6379"


class LocalCacheOptions(msgspec.Struct, frozen=True):
    """A cache in the server's own memory; size 0 for none."""

    size: int = DEFAULT_CACHE_BYTES


class RedisCacheOptions(msgspec.Struct, frozen=True):
    """A cache in a Redis that servers share; names as Triton's Redis cache has them.

    Attributes:
        user: "" for Redis' default user; TRITONCACHE_REDIS_USERNAME in the environment when not given.
        password: "" for none; TRITONCACHE_REDIS_PASSWORD in the environment when not given.
        connect_timeout: milliseconds.
        socket_timeout: milliseconds to wait for one answer.
        pool_size: most connections.
        wait_timeout: milliseconds to wait for one of them to be free.
        ttl: seconds after which Redis forgets an entry; 0 leaves that to its eviction policy.
    """

    host: str
    port: int = 6379
    user: str = ""
    password: str = ""
    db: int = 0
    connect_timeout: int = 500
    socket_timeout: int = 500
    pool_size: int = 8
    wait_timeout: int = 100
    ttl: int = 0


CacheOptions = LocalCacheOptions | RedisCacheOptions

_KINDS: Mapping[str, type[LocalCacheOptions] | type[RedisCacheOptions]] = {
    "local": LocalCacheOptions,
    "redis": RedisCacheOptions,
}
_SMALLEST = {"size": 0, "db": 0, "ttl": 0}
_FORM = re.compile(r"(?P<name>[^,=]+),(?P<settings>[^,=]+=.*)", re.DOTALL)


def parse_cache_config(texts: Sequence[str], environment: Mapping[str, str]) -> CacheOptions:
    """The cache that `--cache-config` texts describe: `<name>,<setting>=<value>`, also several settings in one text.

    A later text overrides what an earlier one said of the same setting.

    Raises:
        InvalidArgumentError: another form, an unknown cache or setting, two caches, or a value that does not fit.
    """
    settings: dict[str, dict[str, str]] = {}
    for text in texts:
        form = _FORM.fullmatch(text)
        if form is None:
            raise InvalidArgumentError(f"expected <cache name>,<setting>=<value>, got '{text}'; {_EXAMPLE}")
        name = form["name"]
        if name not in _KINDS:
            raise InvalidArgumentError(f"there is no cache '{name}'; expected {' or '.join(_KINDS)}")
        settings.setdefault(name, {}).update(_settings(name, form["settings"]))
    if len(settings) > 1:
        raise InvalidArgumentError(
            "found multiple cache configurations, but only a single cache is currently supported: "
            f"{' and '.join(settings)}"
        )
    [(name, given)] = settings.items()
    if name == "redis":
        given.setdefault("user", environment.get("TRITONCACHE_REDIS_USERNAME", ""))
        given.setdefault("password", environment.get("TRITONCACHE_REDIS_PASSWORD", ""))
    return _options(name, given)


def _settings(name: str, text: str) -> dict[str, str]:
    """`a=1,b=2` as a mapping. A comma ends a value only where a setting's name follows: passwords may have commas."""
    known = _KINDS[name].__struct_fields__
    found: dict[str, str] = {}
    for part in re.split(rf",(?=(?:{'|'.join(known)})=)", text):
        key, _, value = part.partition("=")
        if key not in known:
            raise InvalidArgumentError(f"cache '{name}' has no setting '{key}'; it has {', '.join(known)}")
        found[key] = value
    return found


def _options(name: str, given: Mapping[str, str]) -> CacheOptions:
    kind = _KINDS[name]
    values: dict[str, str | int] = {}
    for field in msgspec.structs.fields(kind):
        if field.name not in given:
            if field.required:
                raise InvalidArgumentError(f"cache '{name}' needs the setting '{field.name}'; {_EXAMPLE}")
            continue
        text = given[field.name]
        values[field.name] = _number(name, field.name, text) if field.type is int else text
    return msgspec.convert(values, kind)


def _number(name: str, setting: str, text: str) -> int:
    smallest = _SMALLEST.get(setting, 1)
    if not text.isascii() or not text.isdigit() or int(text) < smallest:
        raise InvalidArgumentError(f"cache '{name}' expects a whole number >= {smallest} as {setting}, got '{text}'")
    if setting == "port" and int(text) > 65535:
        raise InvalidArgumentError(f"cache '{name}' expects a port from 1 to 65535, got {text}")
    return int(text)
