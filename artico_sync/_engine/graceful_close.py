"""The last minute of an open call: what was sent arrives, then the channel closes; loop thread."""

from __future__ import annotations

import asyncio
import logging

from artico_sync._engine.data_channel import DataChannel

logger = logging.getLogger("artico_sync._engine.session")

# Seconds the peer gets to confirm the closing of the channel before the connection goes; anew while
# it is still sending. One of ours never fails to, as long as it is there.
CLOSE_CONFIRMATION = 0.5
PEER_CONFIRMATION = 2.0
# Seconds a browser's page may take to get round to a channel its transport has opened.
BROWSER_START = 0.5


async def deliver_and_close(
    channel: DataChannel, closed: asyncio.Event, *, opened: float, peer_is_artico_sync: bool
) -> None:
    """Wait until everything sent has arrived, and close the channel.

    Args:
        channel: The call's channel.
        closed: Set when the channel or what carries it has closed.
        opened: When the channel opened, in the loop's time.
        peer_is_ours: Whether artico_sync runs at the other end, rather than a page.
    """
    try:
        if not channel.drained:
            await channel.wait_drained()
    except ConnectionError:
        logger.debug("%r: the association ended while delivering", channel)
        return
    if not peer_is_artico_sync and channel.messages_sent:
        await _let_page_catch_up(closed, opened)
    channel.close()
    # The peer may be hanging up as well: it confirms once it has delivered all of its own.
    patience = PEER_CONFIRMATION if peer_is_artico_sync else CLOSE_CONFIRMATION
    received = -1
    while not closed.is_set() and received != channel.received:
        received = channel.received
        if channel.is_held:
            patience = CLOSE_CONFIRMATION  # it cannot go on: here nobody reads any more
        await _wait(closed, channel.patience(patience))


async def _let_page_catch_up(closed: asyncio.Event, opened: float) -> None:
    # A page that has not got round to a new channel when it closes never sees its messages,
    # though its transport has acknowledged them; it does not say when it has.
    age = asyncio.get_running_loop().time() - opened
    if age < BROWSER_START:
        await _wait(closed, BROWSER_START - age)


async def _wait(closed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await closed.wait()
    except TimeoutError:
        logger.debug("the channel has not closed within %g s", seconds)
