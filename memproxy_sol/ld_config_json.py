"""The value of a runtime linker configuration file as JSON types and back, as docs/ldconfig.md describes.

Standard library only: the boot-time verification imports this module.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from memproxy_sol.errors import LdConfigError
from memproxy_sol.ld_config_value import (
    PERMANENT,
    CachedDirectory,
    CachedObject,
    Filter,
    Layout,
    LdConfig,
    ObjectCache,
    Path,
    Variable,
    machine_number,
    new,
)

_PATHS = ("library_path", "trusted_directories", "aout_library_path", "aout_trusted_directories")
_KEYS = (
    "abi",
    "byte_order",
    "machine",
    "version",
    "flags",
    *_PATHS,
    "environment",
    "identified",
    "dlflags",
    "reservation",
    "filters",
    "objects",
)


def to_json(config: LdConfig) -> dict[str, Any]:
    """The value as JSON types; bytes that are no UTF-8 are lone surrogates."""
    layout = config.layout
    environment = None
    if config.environment is not None:
        environment = []
        for variable in config.environment:
            item: dict[str, Any] = {
                "name": variable.name,
                "value": variable.value,
                "permanent": variable.permanent,
            }
            if variable != Variable.define(variable.name, variable.value, variable.permanent):
                item["flags"] = variable.flags
            environment.append(item)
    result: dict[str, Any] = {
        "abi": layout.bits,
        "byte_order": layout.byte_order,
        "machine": layout.machine_name,
        "version": config.version,
        "flags": config.flags,
    }
    for name in _PATHS:
        value = getattr(config, name)
        result[name] = None if value is None else list(value)
    result.update(environment=environment, identified=config.identified, dlflags=config.dlflags)
    result["reservation"] = (
        None if config.reservation is None else {"begin": config.reservation[0], "end": config.reservation[1]}
    )
    result["filters"] = None if config.filters is None else [asdict(item) for item in config.filters]
    result["objects"] = None if config.objects is None else asdict(config.objects)
    return result


def _layout_keys(reader: _Json) -> dict[str, Any]:
    """The fields of a Layout that are there, by their keys in the JSON."""
    bits, order = reader.get("abi", int, None), reader.get("byte_order", str, None)
    machine = reader.get("machine", str, None)
    if bits not in (None, 32, 64):
        raise LdConfigError(f"{bits} is neither 32 nor 64", field="abi")
    if order not in (None, "little", "big"):
        raise LdConfigError(f"{order!r} is neither 'little' nor 'big'", field="byte_order")
    try:
        number = None if machine is None else machine_number(machine)
    except ValueError:
        raise LdConfigError(
            f"{machine!r} is no machine: say 80386, AMD64, SPARC, SPARCV9 or an ELF number from 1 to 255",
            field="machine",
        ) from None
    found = {"abi": bits, "byte_order": order, "machine": number}
    return {key: value for key, value in found.items() if value is not None}


def layout_from_json(obj: object) -> Layout | None:
    """The layout that the keys `abi`, `byte_order` and `machine` name; None unless all three are there.

    Raises LdConfigError for a value that none of them can have.
    """
    keys = _layout_keys(_Json(obj, "JSON"))
    return Layout(keys["abi"], keys["byte_order"], keys["machine"]) if len(keys) == 3 else None


def from_json(obj: object, layout: Layout | None = None) -> LdConfig:
    """The value that `to_json` gave. Keys left out have the value of `new(layout)`.

    `layout` may be left out if the keys name it; if both are there they must agree. Raises LdConfigError that
    names the key for a wrong type, an unknown key or a contradiction. Whether the value fits a file is `encode`'s
    to say.
    """
    reader = _Json(obj, "JSON", _KEYS)
    layout = layout or layout_from_json(obj)
    if layout is None:
        raise LdConfigError("the keys abi, byte_order and machine are needed to know the layout", field="abi")
    wanted = {"abi": layout.bits, "byte_order": layout.byte_order, "machine": layout.machine}
    for key, value in _layout_keys(reader).items():
        if value != wanted[key]:
            raise LdConfigError(f"{reader.obj[key]!r} contradicts {layout}, which is asked for", field=key)
    plain = new(layout)
    environment = None
    for number, item in enumerate(reader.get("environment", list, None) or ()):
        environment = environment or []
        entry = _Json(item, f"environment[{number}]", ("name", "value", "permanent", "flags"))
        name, value = entry.get("name", str), entry.get("value", str, None)
        if "=" in name:
            raise LdConfigError(f"{name!r} contains '='", field=f"environment[{number}].name")
        permanent = entry.get("permanent", bool)
        variable = Variable.define(name, value, permanent)
        flags = entry.get("flags", int, variable.flags)
        if bool(flags & PERMANENT) != permanent:
            raise LdConfigError(f"{flags:#x} contradicts permanent", field=f"environment[{number}].flags")
        environment.append(replace(variable, flags=flags))
    if environment is None and reader.get("environment", list, None) is not None:
        environment = []
    reservation = None
    if reader.get("reservation", dict, None) is not None:
        entry = _Json(reader.get("reservation", dict), "reservation", ("begin", "end"))
        reservation = (entry.get("begin", int), entry.get("end", int))
    return LdConfig(
        layout=layout,
        identified=reader.get("identified", bool, True),
        version=reader.get("version", int, plain.version),
        flags=reader.get("flags", int, plain.flags),
        dlflags=reader.get("dlflags", int, 0),
        environment=None if environment is None else tuple(environment),
        reservation=reservation,
        filters=_filters_from_json(reader),
        objects=_objects_from_json(reader),
        **{name: reader.path(name) for name in _PATHS},
    )


def _filters_from_json(reader: _Json) -> tuple[Filter, ...] | None:
    items = reader.get("filters", list, None)
    if items is None:
        return None
    filters = []
    for number, item in enumerate(items):
        entry = _Json(item, f"filters[{number}]", ("name", "filtees", "resolved"))
        filters.append(Filter(entry.get("name", str), entry.get("filtees", str), entry.sequence("resolved", str)))
    return tuple(filters)


def _objects_from_json(reader: _Json) -> ObjectCache | None:
    value = reader.get("objects", dict, None)
    if value is None:
        return None
    keys = ("buckets", "chains", "objects", "directories", "application", "spare")
    cache = _Json(value, "objects", keys)
    objects = []
    for number, item in enumerate(cache.get("objects", list), 1):
        keys = ("name", "directory", "flags", "info", "hash", "alternative")
        entry = _Json(item, f"objects[{number}]", keys)
        numbers = {key: entry.get(key, int) for key in keys[1:5]}
        objects.append(
            CachedObject(name=entry.get("name", str), alternative=entry.get("alternative", str, None), **numbers)
        )
    directories = []
    for number, item in enumerate(cache.get("directories", list)):
        entry = _Json(item, f"directories[{number}]", ("object", "files"))
        directories.append(CachedDirectory(entry.get("object", int), entry.sequence("files", int)))
    return ObjectCache(
        cache.sequence("buckets", int),
        cache.sequence("chains", int),
        tuple(objects),
        tuple(directories),
        cache.get("application", int, None),
        cache.get("spare", int, 0),
    )


_REQUIRED = object()


class _Json:
    """A JSON object whose members are asked for with the type that they must have."""

    def __init__(self, obj: object, where: str, keys: tuple[str, ...] = ()) -> None:
        if not isinstance(obj, dict):
            raise LdConfigError("is no JSON object", field=where)
        for key in obj:
            if keys and key not in keys:
                raise LdConfigError(f"unknown key {key!r}; known are {', '.join(keys)}", field=where)
        self.obj = obj
        self.where = "" if where == "JSON" else f"{where}."

    def get(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        value = self.obj.get(key)
        if value is None:
            if default is _REQUIRED:
                raise LdConfigError("is missing", field=self.where + key)
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            names = {int: "number", str: "string", bool: "truth value", list: "list", dict: "object"}
            raise LdConfigError(f"{value!r} is no {names[kind]}", field=self.where + key)
        return value

    def sequence(self, key: str, kind: type) -> tuple[Any, ...]:
        values = self.get(key, list)
        return tuple(_Json({"": value}, f"{self.where}{key}").get("", kind) for value in values)

    def path(self, key: str) -> Path | None:
        if self.get(key, list, None) is None:
            return None
        elements: Path = self.sequence(key, str)
        return () if elements == ("",) else elements
