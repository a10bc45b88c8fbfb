"""A stored picture is whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from bot.storage.images import ImageLost, ImageStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def files(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_put_is_read_again_by_its_hash(store: ImageStore) -> None:
    name = store.put(b"picture")
    assert name == hashlib.sha256(b"picture").hexdigest()
    assert store.read(name) == b"picture"


def test_equal_pictures_share_one_file(store: ImageStore, tmp_path: Path) -> None:
    assert store.put(b"picture") == store.put(b"picture")
    assert len(files(tmp_path)) == 1


def test_a_missing_picture_is_lost(store: ImageStore) -> None:
    with pytest.raises(ImageLost):
        store.read("0" * 64)


def test_a_damaged_picture_is_lost_rather_than_wrong_and_putting_it_again_mends_it(
    store: ImageStore, tmp_path: Path
) -> None:
    name = store.put(b"picture")
    [file] = files(tmp_path)
    file.write_bytes(b"pictura")
    with pytest.raises(ImageLost):
        store.read(name)
    store.put(b"picture")
    assert store.read(name) == b"picture"


def test_a_full_disk_leaves_no_trace(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            store.put(b"picture")
    assert files(tmp_path) == []
    assert store.read(store.put(b"picture")) == b"picture"


def test_a_file_gets_its_name_only_once_its_content_is_on_disk(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    really = os.fsync

    def watch(descriptor: int) -> None:
        synced.append([path.name for path in files(tmp_path)])
        really(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    name = store.put(b"picture")
    assert name not in synced[0]
    assert synced[-1] == [name]


def test_deleting_twice_is_harmless(store: ImageStore) -> None:
    name = store.put(b"picture")
    store.delete(name)
    store.delete(name)
    with pytest.raises(ImageLost):
        store.read(name)
