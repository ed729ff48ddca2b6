// Chromium, on a busy machine, sometimes leaves the page's object of a channel that the peer opened
// "connecting" for ever, about once in a thousand calls, while its own statistics call the channel
// open and data arrives on it. The page cannot send then. This runs in every page before anything
// else, and says so on the console.
{
  const PATIENCE = 2000;

  const look = async (connection, channel) => {
    if (channel.readyState !== "connecting") return;
    for (const one of (await connection.getStats()).values())
      if (
        one.type === "data-channel" &&
        one.dataChannelIdentifier === channel.id &&
        one.state === "open"
      )
        console.warn(`stuck channel: ${JSON.stringify(one)}`);
  };

  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(...args) {
      super(...args);
      this.addEventListener("datachannel", ({ channel }) =>
        setTimeout(look, PATIENCE, this, channel));
    }
  };
}
