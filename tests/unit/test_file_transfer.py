"""Tests of the public name `artico_sync.file_transfer`."""

from __future__ import annotations

from artico_sync import file_transfer, files


def test_file_transfer_exports_what_files_exports() -> None:
    assert file_transfer.__all__ == files.__all__
    for name in files.__all__:
        assert getattr(file_transfer, name) is getattr(files, name)
