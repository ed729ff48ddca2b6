"""The graceful end of an open call: everything sent is delivered, then the data channel closes."""

from __future__ import annotations

import asyncio
import logging

from artico_sync._engine.data_channel import DataChannel

logger = logging.getLogger(__name__)

# Seconds to wait for the peer to confirm the close of the data channel, restarted whenever data
# arrives. An artico_sync peer always confirms while it is connected, a browser may not.
CONFIRMATION_SECONDS = 0.5
ARTICO_SYNC_CONFIRMATION_SECONDS = 2.0
# Seconds a page in a browser may need to set up handlers for a channel that has opened.
PAGE_START_SECONDS = 0.5


async def deliver_and_close(
    channel: DataChannel, closed: asyncio.Event, *, peer_is_artico_sync: bool
) -> None:
    """Wait until the peer has acknowledged everything sent, and close the channel.

    Args:
        channel: The call's channel.
        closed: Set when the channel or its connection has closed.
        peer_is_artico_sync: True if the peer is artico_sync, False if it is a page in a browser.
    """
    try:
        if not channel.drained:
            await channel.wait_drained()
    except ConnectionError:
        logger.debug("%r: the association ended while delivering", channel)
        return
    if not peer_is_artico_sync and channel.messages_sent:
        await _wait_for_page(channel, closed)
    channel.close()
    # The peer may be hanging up as well: it confirms after delivering everything it has sent.
    timeout = ARTICO_SYNC_CONFIRMATION_SECONDS if peer_is_artico_sync else CONFIRMATION_SECONDS
    received = -1
    while not closed.is_set() and received != channel.received:
        received = channel.received
        if channel.is_receive_window_closed:
            timeout = CONFIRMATION_SECONDS  # the peer cannot go on: no thread reads its messages
        await _wait(closed, channel.retransmission_wait(timeout))


async def _wait_for_page(channel: DataChannel, closed: asyncio.Event) -> None:
    """Give a page time to receive messages on a channel that has only just opened.

    If the channel closes before the page has set up its handlers, the messages are lost, although
    the browser's transport has acknowledged them.
    """
    age = asyncio.get_running_loop().time() - channel.opened_at
    if age < PAGE_START_SECONDS:
        await _wait(closed, PAGE_START_SECONDS - age)


async def _wait(closed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await closed.wait()
    except TimeoutError:
        logger.debug("the channel has not closed within %g s", seconds)
