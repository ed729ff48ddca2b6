// The RTCPeerConnection under each call, which @rtco/client keeps to itself: ICE restarts asked
// for by the page, and over which path its packets go.

const LOOK_INTERVAL = 20;

const made = [];
const Native = window.RTCPeerConnection;

window.RTCPeerConnection = class extends Native {
  constructor(...args) {
    super(...args);
    made.push(this);
  }
};

export const latestConnection = () => made.at(-1);

export function watchIce(connection, note) {
  connection.addEventListener("iceconnectionstatechange", () =>
    note(connection.iceConnectionState));
}

const usernameOf = (description) => /^a=ice-ufrag:(\S+)/m.exec(description?.sdp ?? "")?.[1];

// Ours and theirs of the last finished negotiation.
const usernames = (connection) => [
  usernameOf(connection.currentLocalDescription),
  usernameOf(connection.currentRemoteDescription),
];

// The candidates of the pair in use.
async function pathOf(connection) {
  const stats = await connection.getStats();
  const transport = [...stats.values()].find((one) => one.type === "transport");
  const pair = stats.get(transport?.selectedCandidatePairId);
  return pair && [stats.get(pair.localCandidateId), stats.get(pair.remoteCandidateId)];
}

export function iceFunctions(calls) {
  return {
    restartIce: (session) => calls.get(session).connection.restartIce(),
    usernames: (session) => usernames(calls.get(session).connection),

    // Wait until so many more pictures of a track have been decoded.
    async decodes(session, track, count, limit) {
      const { connection } = calls.get(session);
      const deadline = performance.now() + limit;
      let first;
      let found;
      do {
        for (const one of (await connection.getStats()).values())
          if (one.type === "inbound-rtp" && one.trackIdentifier === track)
            found = one.framesDecoded;
        first ??= found;
        if (found - first >= count) return;
        await new Promise((go) => setTimeout(go, LOOK_INTERVAL));
      } while (performance.now() < deadline);
      throw new Error(`no ${count} pictures of ${track} within ${limit} ms: ${first}, ${found}`);
    },

    // Wait until packets go over a path with other usernames than those, on both sides.
    async restarted(session, before, limit) {
      const { connection } = calls.get(session);
      const deadline = performance.now() + limit;
      let found;
      do {
        const now = usernames(connection);
        const path = (await pathOf(connection)) ?? [];
        const state = connection.iceConnectionState;
        found = [now, path.map((one) => one.usernameFragment), state];
        if (
          now.every((one, at) => one !== before[at] && one === path[at]?.usernameFragment) &&
          ["connected", "completed"].includes(state)
        ) return;
        await new Promise((go) => setTimeout(go, LOOK_INTERVAL));
      } while (performance.now() < deadline);
      throw new Error(`no other path than ${before} within ${limit} ms: ${JSON.stringify(found)}`);
    },
  };
}
