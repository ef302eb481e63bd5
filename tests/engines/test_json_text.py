from pathlib import Path

import pytest

from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.json_text import load_json
from squeezedrive.pipeline.core.errors import ProfileError
from squeezedrive.pipeline.profiling.compare import read_profile

DEEP = b"[" * 100_000


def test_json_is_read() -> None:
    assert load_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", DEEP, b'{"a":' * 100_000])
def test_whatever_else_comes_is_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_json(text)


def test_files_that_are_nested_too_deep_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "annotations" / "instances_train.json"
    path.parent.mkdir()
    path.write_bytes(DEEP)
    with pytest.raises(DatasetError, match="is not JSON: lists and objects are nested too deep"):
        load_dataset(tmp_path, "train")
    with pytest.raises(ProfileError, match="not valid JSON"):
        read_profile(path)
