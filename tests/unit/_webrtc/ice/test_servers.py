"""Lookups of server names: shared, limited in number, and cancelled without residue."""

from __future__ import annotations

import asyncio
import threading

import pytest

from artico_sync._bridge.threads import DaemonExecutor
from artico_sync._webrtc.ice import servers
from artico_sync._webrtc.ice.servers import get_resolver

FOUND = [("192.0.2.1", 3478)]
LIMIT = 10.0


class Names:
    """A fake of the system's resolver, which answers once `answer` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lookups: list[str] = []
        self.answer = threading.Event()
        monkeypatch.setattr(servers, "look_up", self._look_up)

    def _look_up(self, host: str, port: int) -> list[tuple[str, int]]:
        self.lookups.append(host)
        assert self.answer.wait(LIMIT)
        if host == "unknown.invalid":
            raise OSError("no such name")
        return FOUND


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def use_daemons() -> None:
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())


def test_addresses_are_not_looked_up(names: Names) -> None:
    async def main() -> None:
        assert await get_resolver().resolve("192.0.2.9", 1) == [("192.0.2.9", 1)]
        assert await get_resolver().resolve("::1", 2) == [("::1", 2)]

    asyncio.run(main())
    assert names.lookups == []


def test_concurrent_lookups_of_a_name_are_shared(names: Names) -> None:
    async def main() -> None:
        use_daemons()
        wanted = [asyncio.ensure_future(get_resolver().resolve("a.invalid", 3478)) for _ in "123"]
        await asyncio.sleep(0)
        wanted[0].cancel()
        names.answer.set()
        assert await asyncio.gather(*wanted[1:]) == [FOUND, FOUND]
        assert wanted[0].cancelled()
        assert await get_resolver().resolve("a.invalid", 3478) == FOUND

    asyncio.run(main())
    assert names.lookups == ["a.invalid", "a.invalid"]


def test_a_name_that_does_not_exist(names: Names) -> None:
    names.answer.set()

    async def main() -> None:
        use_daemons()
        with pytest.raises(OSError):
            await get_resolver().resolve("unknown.invalid", 3478)

    asyncio.run(main())


def test_hanging_lookups_are_limited_and_cancelled(names: Names) -> None:
    async def main() -> None:
        use_daemons()
        hanging = []
        for number in range(servers.CONCURRENT_LOOKUPS):
            lookup = get_resolver().resolve(f"{number}.invalid", 3478)
            hanging.append(asyncio.ensure_future(lookup))
        await asyncio.sleep(0)
        with pytest.raises(OSError, match="too many"):
            await get_resolver().resolve("more.invalid", 3478)
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
        assert all(task.cancelled() for task in hanging)

    asyncio.run(main())
    names.answer.set()
    assert "more.invalid" not in names.lookups


def test_each_loop_has_its_own_resolver() -> None:
    async def main() -> object:
        assert get_resolver() is get_resolver()
        return get_resolver()

    assert asyncio.run(main()) is not asyncio.run(main())


def test_the_system_resolves_names() -> None:
    assert ("127.0.0.1", 7) in servers.look_up("127.0.0.1", 7)
