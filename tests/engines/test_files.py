from pathlib import Path

import pytest

from squeezedrive.engines.errors import DatasetError, UserError
from squeezedrive.engines.files import check_free, check_output, replacing, write_whole


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("shared", [False, True])
def test_failed_write_keeps_the_old_file(
    tmp_path: Path, failure: BaseException, shared: bool
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail() -> None:
        with replacing(path, shared=shared) as temporary:
            temporary.write_bytes(b"half")
            raise failure

    with pytest.raises(type(failure)):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_collide(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, shared=True) as first, replacing(path, shared=True) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
        assert first.suffix == second.suffix == ".tmp"
    assert path.read_bytes() == b"first"  # the first writer finished last
    assert list(tmp_path.iterdir()) == [path]


def test_reports_a_file_that_cannot_be_written_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    with pytest.raises(UserError) as caught:
        write_whole(path, b"", sync=True)
    assert str(caught.value) == f"{path}: cannot be written: No such file or directory"


def test_rejects_outputs_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "file"
    check_output(path, overwrite=False)
    path.touch()
    check_output(path, overwrite=True)
    with pytest.raises(DatasetError, match="file: exists already; --overwrite replaces it"):
        check_free(path, False, DatasetError)
    with pytest.raises(UserError, match=r"the folder .*none does not exist"):
        check_output(tmp_path / "none" / "file", overwrite=True)
