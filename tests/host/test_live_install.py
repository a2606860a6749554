"""install, verify and uninstall on the running system, through crle, SMF, trial and guard, in the laboratory."""

from __future__ import annotations

from tests.host.live import Live


def test_install_on_the_running_system(live: Live) -> None:
    status = live.install()
    assert status == 0, live.err + live.out
    assert live.lab.brick() is None
    for bits in (32, 64):
        crle = ["/usr/bin/crle", *(["-64"] if bits == 64 else [])]
        assert b"libmemproxy.so" in live.lab.execute(crle, {}).out
    assert live.run("verify") == 0, live.out
    states = live.lab.execute(["/usr/bin/svcs", "-H", "-o", "state", "svc:/site/memproxy:default"], {})
    assert states.out.split() == [b"online"]
