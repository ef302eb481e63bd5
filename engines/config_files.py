"""Configuration files: the user's own and those in the package, found from any folder."""

from __future__ import annotations

from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def find_config(path: Path, folder: Path = Path()) -> Path:
    """Return the file at `path` in `folder`, or else the packaged file of that name.

    `live`, `live.yaml` and `configs/live.yaml` name configs/live.yaml of the package if the folder
    has no such file; `training/paper` names configs/training/paper.yaml. If there is neither file,
    the path in `folder` is returned, so that the caller reports it as missing.
    """
    own = folder / path
    if path.is_absolute() or (own.exists() and not own.is_dir()):
        return own
    name = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    packaged = CONFIGS / name.parent / f"{name.name.removesuffix('.yaml')}.yaml"
    return packaged if packaged.is_file() else own
