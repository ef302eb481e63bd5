"""Compile for the CPU with Numba, and keep the machine code for the next start."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from squeezedrive.kernels.cache_folder import cache_folder

FOLDER = Path(__file__).parent

_config: Any = numba.config  # its attributes come from the environment; a type checker sees none


def jit(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function for `signature` at once, or loads it.

    The compiled function releases the GIL. If the cache cannot be read or written (read-only or
    full disk, files cut off by a power failure), the function is compiled again and the run goes
    on.
    """

    def compile_function(function: Callable[..., Any]) -> Any:
        folder = machine_code_folder()
        if folder is not None:
            before = _config.CACHE_DIR
            _config.CACHE_DIR = str(folder)
            try:
                return numba.njit(signature, nogil=True, error_model="numpy", cache=True)(function)
            except (OSError, EOFError, pickle.UnpicklingError):
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                _config.CACHE_DIR = before
        return numba.njit(signature, nogil=True, error_model="numpy")(function)

    return compile_function


def machine_code_folder(*compilers: str) -> Path | None:
    """Return the folder for this package's machine code; None if it cannot be written.

    `compilers` names the compilers used beside Numba, with their versions.

    Numba notices a change in the file of a cached function, but not in the files of the functions
    that it calls, and would keep using their old code. So the folder's name is a hash of all
    sources of this package: each version of the sources has a folder of its own.
    """
    digest = hashlib.sha256("\n".join([numba.__version__, *compilers]).encode())
    for source in sorted(FOLDER.rglob("*.py")):
        digest.update(b"%s %d\n" % (source.name.encode(), source.stat().st_size))
        digest.update(source.read_bytes())
    base = cache_folder("numba")
    if base is None:
        return None
    folder = base / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None  # checked here, because Numba would fall back to __pycache__ and its stale code
    return folder
