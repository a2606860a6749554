"""Each named state of /etc/ld.so.preload through install, verify and uninstall: others' bytes come back exactly."""

from __future__ import annotations

import json
import os

import pytest

from memproxy_sol import ld_so_preload
from memproxy_sol.ld_so_preload import is_ours
from tests.linux_images import ALLOCATOR, PRELOAD, LinuxImage
from tests.preload_files import STATES, State

NUL, LONGER = "take the NUL byte out", "as part of a comment when the file gets longer"
REFUSED = {
    "UTF-16": NUL,
    "NUL between items": NUL,
    "NUL in a line of its own": NUL,
    "NUL, no newline at the end": NUL,
    "NUL in the last item": NUL,
    "NUL at the very end": NUL,
    "NUL first": NUL,
    "only NUL bytes": NUL,
    "an executable's first bytes": NUL,
    "ours behind a NUL": NUL,
    "a second comment too late in the file": LONGER,
    "commented out, but too late in the file": LONGER,
    "a comment that counts in part": LONGER,
}
"""Where nothing can be added without a change to what others have in force, with a part of the message."""
LEFT = {
    "ours": None,
    "ours before others": b"/mnt/g/$LIB/a.so\n",
    "ours after others": b"/mnt/g/$LIB/a.so\n",
    "ours between others": b"/mnt/g/$LIB/a.so\n/mnt/g/$LIB/b.so\n",
    "ours in others' line": b"/mnt/g/$LIB/a.so:/mnt/g/$LIB/b.so\n",
    "ours twice": b"/mnt/g/$LIB/a.so\n",
    "ours with CR/LF": b"/mnt/g/$LIB/a.so\r\n",
    "ours behind a byte order mark": None,
    "ours and a comment": b"# memory\n/mnt/g/$LIB/a.so\n",
    "ours last, no newline": b"/mnt/g/$LIB/a.so\n",
}
"""What uninstall leaves where a former line of ours stood, of which no record is left: all but that line."""


def texts(data: bytes) -> list[str]:
    return [item.text for item in ld_so_preload.parse(data)]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_others_bytes_come_back(linux_image: LinuxImage, state: State) -> None:
    image = linux_image
    image.preload(state.data)
    os.chown(image / PRELOAD, 0, 4)
    os.utime(image / PRELOAD, ns=(1_500_000_000_000_000_007, 1_400_000_000_000_000_003))
    before = image.snapshot(inodes=True)
    if state.name in REFUSED:
        assert image.install() == 1
        assert REFUSED[state.name] in image.err
        assert image.snapshot(inodes=True) == before
        return
    assert image.install() == 0, image.err
    assert len(image.out) < 30_000, "it can be read"
    others = [text for text in texts(state.data) if not is_ours(text)]
    ours = image.line("libmemproxy.so", ALLOCATOR["mimalloc"]).decode().split()
    assert texts(image.preload() or b"") == [*others, *ours]
    assert image.run("verify", "--json") == 0, image.out
    assert {finding["severity"] for finding in json.loads(image.out)["findings"]} <= {"warning", "note"}
    between = image.snapshot(inodes=True)
    assert image.install() == 0, image.err
    assert image.snapshot(inodes=True) == between
    assert image.run("uninstall", "--purge") == 0, image.err
    if state.name in LEFT:
        assert image.preload() == LEFT[state.name]
    else:
        after = image.snapshot(inodes=True)
        assert after[PRELOAD][:4] == before[PRELOAD][:4]
        assert (image / PRELOAD).stat().st_mtime_ns == 1_400_000_000_000_000_003
    assert {name for name in image.snapshot() if name != PRELOAD} == {name for name in before if name != PRELOAD}
