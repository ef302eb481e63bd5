import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.backends.tensorrt.cache import EngineCache, EngineKey, open_user_cache

ROOT = Path(__file__).parents[2]
KEY = EngineKey(
    model="small",
    graph="0123456789abcdef" * 4,
    precision="fp16",
    input="320x96",
    max_batch=8,
    optimum_batch=1,
    workspace_mib=1024,
    tensorrt="11.4.0.106",
    gpu="NVIDIA H200",
    compute_capability="9.0",
)
PLAN = bytes(range(256)) * 40


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> EngineCache:
    return EngineCache(tmp_path / "engines", said.append)


def test_loads_an_engine_as_it_was_stored(cache: EngineCache, said: list[str]) -> None:
    assert cache.load(KEY) is None
    cache.store(KEY, PLAN)
    assert cache.load(KEY) == PLAN
    assert said == []
    (entry,) = cache.entries()
    assert entry.path.name.startswith("fp16-320x96-b8-")
    assert entry.fields["gpu"] == "NVIDIA H200"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "other"),
        ("graph", "f" * 64),
        ("precision", "fp32"),
        ("input", "640x192"),
        ("max_batch", 4),
        ("optimum_batch", 2),
        ("workspace_mib", 512),
        ("tensorrt", "10.16.1.11"),
        ("gpu", "NVIDIA GeForce RTX 4090"),
        ("compute_capability", "8.9"),
        ("schema", 2),
    ],
)
def test_names_the_field_of_the_key_that_differs(
    cache: EngineCache, said: list[str], field: str, value: object
) -> None:
    cache.store(KEY, PLAN)
    wanted = replace(KEY, **{field: value})  # type: ignore[arg-type]
    assert cache.load(wanted) is None
    (line,) = said
    before = str(getattr(KEY, field))[:8]
    assert f"does not fit: {field} {before}" in line
    assert f"instead of {str(value)[:8]}" in line
    assert line.count("instead of") == 1


def test_compares_with_the_nearest_engine(cache: EngineCache, said: list[str]) -> None:
    cache.store(replace(KEY, input="64x64", precision="fp32", gpu="other"), PLAN)
    cache.store(replace(KEY, tensorrt="10.16.1.11"), PLAN)
    cache.load(KEY)
    assert said == [
        "the nearest engine in the cache does not fit: tensorrt 10.16.1.11 instead of 11.4.0.106"
    ]


def test_rejects_a_key_with_the_fields_of_another_engine(
    cache: EngineCache, said: list[str]
) -> None:
    cache.store(KEY, PLAN)
    (sidecar,) = cache.entries()[0].path.parent.glob("*.json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "gpu": "other"}))
    assert cache.load(KEY) is None
    assert "damaged, gpu other instead of NVIDIA H200" in said[0]
    sidecar.write_text("{")
    assert cache.load(KEY) is None
    assert "its key cannot be read" in said[1]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_reports_a_damaged_engine_in_one_line_and_does_not_load_it(
    cache: EngineCache, said: list[str], damage: str
) -> None:
    cache.store(KEY, PLAN)
    path = cache.entries()[0].path
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes({"cut": PLAN[:5000], "flipped": bytes(content), "empty": b""}[damage])
    assert cache.load(KEY) is None
    (line,) = said
    assert line == f"{path}: damaged; built anew"
    cache.store(KEY, PLAN)
    assert cache.load(KEY) == PLAN


def test_removes_the_least_recently_used_engine_first(tmp_path: Path, said: list[str]) -> None:
    cache = EngineCache(tmp_path, said.append, limit=3 * len(PLAN))
    keys = [replace(KEY, input=f"{n}x96") for n in (32, 64, 96)]
    for age, key in zip((30, 20), keys, strict=False):
        cache.store(key, PLAN)
        os.utime(tmp_path / f"{key.name}.engine", (time.time() - age,) * 2)
    assert cache.load(keys[0]) == PLAN  # the second engine is now the least recently used
    cache.store(keys[2], PLAN)
    assert cache.load(keys[1]) is None
    assert not (tmp_path / f"{keys[1].name}.json").exists()
    assert [cache.load(key) for key in (keys[0], keys[2])] == [PLAN, PLAN]
    assert said[0].startswith(f"{keys[1].name}.engine: removed, the cache is over")


def test_keeps_only_one_engine_that_is_larger_than_the_limit(
    tmp_path: Path, said: list[str]
) -> None:
    cache = EngineCache(tmp_path, said.append, limit=10)
    cache.store(replace(KEY, input="32x96"), PLAN)
    cache.store(KEY, PLAN)
    assert [entry.fields["input"] for entry in cache.entries()] == ["320x96"]


def test_all_engines_of_a_gpu_and_version_share_timings(cache: EngineCache) -> None:
    assert cache.load_timings(KEY) == b""
    cache.store_timings(KEY, b"measured")
    assert cache.load_timings(replace(KEY, precision="fp32", input="64x64")) == b"measured"
    for other in ({"gpu": "other"}, {"tensorrt": "10"}, {"compute_capability": "8.9"}):
        assert cache.load_timings(replace(KEY, **other)) == b""  # type: ignore[arg-type]


def test_reports_a_full_disk_in_one_line_and_leaves_no_files(
    cache: EngineCache, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.store(KEY, PLAN)
    (line,) = said
    assert "cannot be written: No space left on device; the engine is not kept" in line
    assert cache.clear() == ([], 0)


def test_reports_a_folder_that_cannot_be_made_in_one_line(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "file").touch()
    cache = EngineCache(tmp_path / "file" / "engines", said.append)
    assert cache.load(KEY) is None
    cache.store(KEY, PLAN)
    cache.store_timings(KEY, b"measured")
    (line,) = said
    assert "cannot be written: Not a directory; the engine is not kept" in line
    nowhere = EngineCache(None, said.append)
    nowhere.store(KEY, PLAN)
    assert nowhere.load(KEY) is None
    assert "no home directory" in said[1]


def test_a_kill_while_storing_keeps_the_old_engine(cache: EngineCache, said: list[str]) -> None:
    """Kill the process after it has written the new file and before it moves it into place."""
    cache.store(KEY, PLAN)
    script = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from squeezedrive.engines.backends.tensorrt.cache import EngineCache, EngineKey\n"
        "import json\n"
        "folder = Path(sys.argv[1])\n"
        "key = EngineKey(**json.loads(next(folder.glob('*.json')).read_text()))\n"
        "really = os.replace\n"
        "def replace(source, target):\n"
        "    if str(target).endswith('.engine'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    really(source, target)\n"
        "os.replace = replace\n"
        "EngineCache(folder, print).store(key, b'new' * 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(cache.folder)], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert cache.load(KEY) == PLAN
    assert len(cache.entries()) == 1
    removed, _ = cache.clear()
    assert sorted(path.suffix for path in removed) == [".engine", ".json", ".tmp"]
    assert cache.folder is not None
    assert list(cache.folder.iterdir()) == []


def test_two_processes_never_load_half_an_engine(tmp_path: Path) -> None:
    """Store and load plans under one key in two processes; each loads a whole plan of either."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, '.')\n"
        "from squeezedrive.engines.backends.tensorrt.cache import EngineCache\n"
        "from tests.engines.test_tensorrt_cache import KEY\n"
        "def complain(line): raise SystemExit(line)\n"
        "cache = EngineCache(Path(sys.argv[1]), complain)\n"
        "for n in range(25):\n"
        "    cache.store(KEY, sys.argv[2].encode() * 200000)\n"
        "    plan = cache.load(KEY)\n"
        "    assert plan is not None and len(set(plan)) == 1 and len(plan) == 200000\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), letter],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for letter in "ab"
    ]  # fmt: skip
    for process in running:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors


def test_cache_lies_in_the_users_cache_folder(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert open_user_cache(said.append).folder == Path("/somewhere/squeezedrive/engines")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert open_user_cache(said.append).folder == Path("/home/someone/.cache/squeezedrive/engines")


def test_inspect_and_clear_cache_work_without_tensorrt(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: list[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = open_user_cache(said.append)
    cache.store(KEY, PLAN)
    os.utime(cache.entries()[0].path, (time.time() - 3 * 86400,) * 2)
    assert main(["inspect"]) == 0
    output = capsys.readouterr().out
    for part in ("last used 3 days ago", "NVIDIA H200", "11.4.0.106", "1, 0.0 MiB of at most 1024"):
        assert part in output
    assert main(["inspect", "int8"]) == 2
    assert f"there are: {KEY.name}.engine" in capsys.readouterr().err
    assert main(["clear-cache"]) == 0
    output = capsys.readouterr().out
    assert f"removed {KEY.name}.engine" in output
    assert "removed 2 files" in output
    assert cache.entries() == []
