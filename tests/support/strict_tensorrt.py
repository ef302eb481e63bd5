"""The real bindings of TensorRT without its library, to check every name and signature in use.

This runs as a program that can import `tensorrt_bindings`. It replaces objects of TensorRT by
objects that know their class: an attribute has to exist in the class, a call has to fit a signature
in the bindings' documentation, argument by argument, and returns an object of the documented class.
The project's code runs on these objects, which shows the names that it uses.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

USED: set[str] = set()

# Results of calls and properties for which an invented value of their type does not suffice.
GIVEN: dict[str, Any] = {}


class Strict:
    """An object of a TensorRT class."""

    def __init__(self, cls: type, bindings: ModuleType) -> None:
        object.__setattr__(self, "_cls", cls)
        object.__setattr__(self, "_bindings", bindings)

    def __getattr__(self, name: str) -> Any:
        cls, bindings = self._cls, self._bindings
        member = inspect.getattr_static(cls, name, None)
        if member is None:
            raise AttributeError(f"{cls.__name__} has no {name}")
        USED.add(f"{cls.__name__}.{name}")
        if isinstance(member, property):
            documentation = member.fget.__doc__ or ""
            return made_up(f"{cls.__name__}.{name}", returned(documentation), bindings)
        return checked(f"{cls.__name__}.{name}", getattr(cls, name).__doc__, bindings)

    def __setattr__(self, name: str, value: Any) -> None:
        member = inspect.getattr_static(self._cls, name, None)
        if not isinstance(member, property) or member.fset is None:
            raise AttributeError(f"{self._cls.__name__}.{name} cannot be set")
        USED.add(f"{self._cls.__name__}.{name}")
        kind = re.search(r"arg1: ([^)]*)\) -> None", member.fset.__doc__ or "")
        if kind and not fits(value, kind[1], self._bindings):
            raise TypeError(f"{self._cls.__name__}.{name} = {value!r}, expected {kind[1]}")

    def __bytes__(self) -> bytes:
        assert self._cls.__name__ == "IHostMemory"  # the only class that is a buffer
        return b"bytes of TensorRT"


def signatures(documentation: str) -> list[tuple[list[str], str]]:
    """Return the parameters without self, and the result, of each overload in the documentation."""
    found = []
    for parameters, result in re.findall(
        r"^(?:\d+\. )?\w+\((self: .*)\) -> (.+)$", documentation, re.MULTILINE
    ):
        parts = re.split(r", (?=\w+: )", parameters)
        found.append((parts[1:], result.strip()))
    return found


def returned(documentation: str) -> str:
    return documentation.rsplit("-> ", 1)[-1].strip()


def checked(name: str, documentation: str, bindings: ModuleType) -> Callable[..., Any]:
    """Return a function with a method's signature that returns a value of the documented type."""

    def call(*arguments: Any, **named: Any) -> Any:
        overloads = signatures(documentation)
        if not overloads:
            raise TypeError(f"{name}: no signature in {documentation!r}")
        for parameters, result in overloads:
            kinds = [part.split(": ", 1) for part in parameters]
            if len(arguments) > len(kinds):
                continue
            bound = dict(zip((kind[0] for kind in kinds), arguments, strict=False)) | named
            if all(
                fits(bound[parameter], kind.split(" = ")[0], bindings)
                if parameter in bound
                else " = " in kind
                for parameter, kind in kinds
            ) and set(bound) <= {kind[0] for kind in kinds}:
                return made_up(name, result, bindings)
        raise TypeError(f"{name}{arguments}{named or ''} fits none of {overloads}")

    return call


def class_of(kind: str, bindings: ModuleType) -> type | None:
    """Return the class with this name, which the documentation may write as in Python or C++."""
    name = re.split(r"\.|::", kind)[-1]
    found = getattr(bindings, name, None) or getattr(bindings, name.removeprefix("I"), None)
    return found if isinstance(found, type) else None


def fits(value: Any, kind: str, bindings: ModuleType) -> bool:
    """Return whether a value can be passed as the documented type."""
    simple = {"str": str, "bool": bool, "int": int, "tuple": tuple, "list": list}
    if kind in simple:
        return isinstance(value, simple[kind])
    if kind == "typing.SupportsInt":
        return isinstance(value, int)
    if kind.rsplit(".", 1)[-1] in ("Buffer", "buffer"):  # of typing_extensions, collections.abc
        return isinstance(value, bytes)
    cls = class_of(kind, bindings)
    if cls is None:
        return False
    if cls.__name__ == "Dims":
        return isinstance(value, tuple | list) and all(isinstance(size, int) for size in value)
    if isinstance(value, Strict):
        return issubclass(value._cls, cls)
    return isinstance(value, cls)


def made_up(name: str, kind: str, bindings: ModuleType) -> Any:
    if name in GIVEN:
        return GIVEN[name]
    simple = {"None": None, "bool": True, "int": 1, "str": "text"}
    if kind in simple:
        return simple[kind]
    cls = class_of(kind, bindings)
    if cls is None:
        raise TypeError(f"{name} returns {kind}, which is unknown")
    return Strict(cls, bindings)


def strict(bindings: ModuleType) -> ModuleType:
    """Return the bindings with strict objects in place of those that need the library."""
    module = ModuleType("strict_tensorrt")
    module.__dict__.update(vars(bindings))

    def constructor(name: str) -> Callable[..., Strict]:
        cls = getattr(bindings, name)

        def construct(*arguments: Any) -> Strict:
            checked(f"{name}.__init__", cls.__init__.__doc__, bindings)(*arguments)
            USED.add(f"{name}.__init__")
            return Strict(cls, bindings)

        return construct

    for name in ("Builder", "OnnxParser", "Runtime"):
        setattr(module, name, constructor(name))
    return module


def exercise(bindings: ModuleType) -> None:
    """Run all code of the project that uses TensorRT."""
    from squeezedrive.engines.backends.tensorrt.builder import build_engine
    from squeezedrive.engines.backends.tensorrt.executor import TensorRTExecutor
    from squeezedrive.engines.backends.tensorrt.log import open_logger
    from squeezedrive.engines.backends.tensorrt.progress import BuildProgress
    from squeezedrive.engines.errors import BackendUnavailable

    class Model:
        def SerializeToString(self) -> bytes:
            return b"a model"

    trt = strict(bindings)
    picture = (-1, 3, 96, 320)
    GIVEN.update(
        {
            "ITensor.shape": picture,
            "ICudaEngine.get_tensor_dtype": bindings.DataType.HALF,
            "ICudaEngine.get_tensor_profile_shape": [(n, *picture[1:]) for n in (1, 1, 8)],
            "OnnxParser.num_errors": 1,
        }
    )
    assert build_engine(trt, Model(), 8, print).plan == b"bytes of TensorRT"  # type: ignore[arg-type]
    GIVEN["IBuilderConfig.set_timing_cache"] = False
    build_engine(trt, Model(), 8, print)  # type: ignore[arg-type]
    for failing, value in (("Builder.build_serialized_network", None), ("OnnxParser.parse", False)):
        GIVEN[failing] = value
        try:
            build_engine(trt, Model(), 8, print)  # type: ignore[arg-type]
            raise AssertionError(failing)
        except BackendUnavailable:
            del GIVEN[failing]

    executor = TensorRTExecutor(trt, b"an engine", "fp16")
    assert (executor.input_type, executor.max_batch) == ("float16", 8)
    context = executor.new_context(2**40 + 1024)
    context.bind(2**40, 2**40 + 512, 3)
    context.enqueue(2**40)
    context.close()
    assert executor.layers() == "text"
    executor.close()

    # Methods that TensorRT calls must have the parameters that it passes.
    for ours, theirs in (
        (open_logger(trt), bindings.ILogger),
        (BuildProgress(trt, print).monitor, bindings.IProgressMonitor),
    ):
        assert isinstance(ours, theirs)
        methods = [m for m in vars(type(ours)) if not m.startswith("_")]
        for method in methods:
            USED.add(f"{theirs.__name__}.{method}")
            ((expected, _),) = signatures(getattr(theirs, method).__doc__)
            parameters = inspect.signature(getattr(ours, method)).parameters
            assert len(parameters) == len(expected), f"{theirs.__name__}.{method}: {expected}"
    open_logger(trt).log(bindings.ILogger.ERROR, "said")
    assert open_logger(trt).last_error == "said"


def main() -> None:
    import tensorrt_bindings as bindings

    exercise(bindings)
    classes = {getattr(bindings, name.split(".")[0]) for name in USED}
    known = {member for cls in classes for member in dir(cls) if not member.startswith("_")}
    missing = []
    for path in sys.argv[1:]:
        value: Any = bindings
        for part in path.split(".")[1:]:
            value = getattr(value, part, None)
        if value is None:
            missing.append(path)
    print(
        json.dumps(
            {
                "version": bindings.__version__,
                "missing": missing,
                "used": sorted(USED),
                "known": sorted(known),
            }
        )
    )


if __name__ == "__main__":
    main()
