from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from asyncmem.sampling import _files
from asyncmem.sampling._files import KeptFile, read_once


def open_descriptors() -> set[str]:
    """The numbers of this process's descriptors."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_opens_nothing_before_the_first_reading(tmp_path: Path) -> None:
    """A kept file for a path that does not exist is an error only when it is read."""
    kept = KeptFile(tmp_path / "absent")
    with pytest.raises(FileNotFoundError):
        kept.read()


def test_reads_from_the_start_every_time(tmp_path: Path) -> None:
    """What was written since is seen through the same descriptor."""
    path = tmp_path / "file"
    path.write_text("one")
    kept = KeptFile(path)
    assert kept.read() == b"one"
    before = open_descriptors()
    path.write_text("two and more")
    assert kept.read() == b"two and more"
    assert open_descriptors() == before


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 40_000])
def test_reads_files_of_any_size(tmp_path: Path, size: int) -> None:
    """Neither way of reading stops at the size of one read."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert len(KeptFile(path).read()) == size
    assert len(read_once(str(path))) == size


def test_reads_lists_of_the_kernel_to_their_end() -> None:
    """A list that comes in parts is read whole."""
    assert read_once("/proc/self/mountinfo").splitlines() == Path("/proc/self/mountinfo").read_bytes().splitlines()


@pytest.mark.parametrize("quick", [True, False])
def test_both_ways_of_reading_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    """With the interpreter's lock held, and without where that cannot be had: the same text, the same errors."""
    if not quick:
        monkeypatch.setattr(_files, "reader", lambda: None)
        monkeypatch.setattr(_files, "file_reader", lambda: None)
    path = tmp_path / "file"
    path.write_text("text")
    assert KeptFile(path).read() == read_once(str(path)) == b"text"
    with pytest.raises(FileNotFoundError, match="absent"):
        read_once(str(tmp_path / "absent"))
    with pytest.raises(IsADirectoryError):
        read_once(str(tmp_path))
    with pytest.raises(IsADirectoryError):
        KeptFile(tmp_path).read()


def test_readings_do_not_wait_for_a_busy_process() -> None:
    """Python's own calls let the interpreter's lock go, and get it back when a busy thread is made to let go of it."""
    kept = KeptFile("/proc/self/statm")
    before = sys.getswitchinterval()
    done = threading.Event()

    def read() -> None:
        for _ in range(100):
            kept.read()
            read_once("/proc/self/statm")
        done.set()

    reader = threading.Thread(target=read)
    sys.setswitchinterval(0.5)
    try:
        reader.start()  # it may have to wait for the lock once
        begin = time.monotonic()
        while not done.is_set() and time.monotonic() - begin < 60.0:
            pass
    finally:
        sys.setswitchinterval(before)
    assert time.monotonic() - begin < 50.0, "twice as long, with half a second for each reading"
    reader.join()


def test_a_file_that_is_slow_to_read_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After three slow readings in a row the lock is let go for it."""
    (tmp_path / "file").write_text("text")
    kept = KeptFile(tmp_path / "file")
    calls = 0

    def slow(_descriptor: int) -> bytes:
        nonlocal calls
        calls += 1
        time.sleep(0.001)
        return b"slow"

    monkeypatch.setattr(kept, "_quick", slow)
    assert [kept.read() for _ in range(3)] == [b"slow"] * 3
    assert kept.read() == b"text"
    assert calls == 3


def test_opens_again_after_a_reading_that_failed(tmp_path: Path) -> None:
    """A file that comes back under its path is found again."""
    path = tmp_path / "file"
    path.mkdir()
    kept = KeptFile(path)
    with pytest.raises(IsADirectoryError):
        kept.read()
    path.rmdir()
    path.write_text("back")
    assert kept.read() == b"back"


def test_closing_gives_the_descriptor_back_and_reading_takes_a_new_one(tmp_path: Path) -> None:
    """Close is no end."""
    path = tmp_path / "file"
    path.write_text("text")
    before = open_descriptors()
    kept = KeptFile(path)
    kept.read()
    assert open_descriptors() != before
    kept.close()
    assert open_descriptors() == before
    assert kept.read() == b"text"


def test_a_dropped_file_gives_its_descriptor_back(tmp_path: Path) -> None:
    """Nobody has to call close."""
    path = tmp_path / "file"
    path.write_text("text")
    before = open_descriptors()
    KeptFile(path).read()
    assert open_descriptors() == before


def test_readers_never_see_another_file_while_others_close(tmp_path: Path) -> None:
    """Closing in one thread while others read gives nobody a number that was reused."""
    (tmp_path / "a").write_text("a" * 50)
    (tmp_path / "b").write_text("b" * 50)
    files = {b"a" * 50: KeptFile(tmp_path / "a"), b"b" * 50: KeptFile(tmp_path / "b")}
    wrong: list[bytes] = []

    def read_and_close() -> None:
        for _ in range(2000):
            for expected, kept in files.items():
                if (content := kept.read()) != expected:
                    wrong.append(content)
                kept.close()

    threads = [threading.Thread(target=read_and_close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
