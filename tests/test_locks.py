"""The packages that the Makefile installs: the versions of constraints.txt, with their hashes."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HASHES = r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+"
ENTRY = re.compile(rf"^(\S+==[^\\\n]+?) \\\n{HASHES}", re.MULTILINE)


def entries(lock: Path) -> list[Requirement]:
    """Return the requirements that a lock pins; fail if one of them has no hash."""
    text = "".join(line for line in lock.open() if not line.startswith("#"))
    assert not ENTRY.sub("", text), "lines that are not requirements with hashes"
    return [Requirement(entry) for entry in ENTRY.findall(text)]


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line.split("#")[0]) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in found}


def needed(table: str) -> set[str]:
    """Return the names of the packages in a list of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    block = text.partition(f"\n{table} = [\n")[2].partition("\n]")[0]
    quoted = re.findall(r'^\s*"(.+)",?(?:\s*#.*)?$', block, re.MULTILINE)
    return {canonicalize_name(Requirement(one).name) for one in quoted}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_the_versions_of_constraints_for_every_python(lock: Path) -> None:
    found = entries(lock)
    for version in PYTHONS:
        environment = {
            "python_version": version, "python_full_version": f"{version}.1",
            "sys_platform": "linux", "platform_machine": "x86_64",
            "implementation_name": "cpython", "platform_python_implementation": "CPython",
        }  # fmt: skip
        here = [one for one in found if one.marker is None or one.marker.evaluate(environment)]
        names = [canonicalize_name(one.name) for one in here]
        assert len(set(names)) == len(names), version
        for name, one in zip(names, here, strict=True):
            pin = pins().get(name)
            assert pin is None or one.specifier == pin.specifier, "out of date: run make lock"


@pytest.mark.parametrize(
    ("lock", "table"), [("base", "dependencies"), ("test", "dependencies"), ("test", "test")]
)
def test_a_lock_has_every_requirement(lock: str, table: str) -> None:
    locked = {canonicalize_name(one.name) for one in entries(ROOT / "locks" / f"{lock}.txt")}
    wanted = needed(table)
    assert len(wanted) >= 10
    assert wanted <= locked, "out of date: run make lock"
