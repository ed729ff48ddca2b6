// A peer as @rtco/peer is one, on the bare RTCPeerConnection, whose signals the test carries.
window.makePeer = (initiator) => {
  const pc = new RTCPeerConnection({ iceServers: [] });
  const events = [], errors = [], outbox = [], streams = {}, arrived = new Map();
  let making = false, ignoring = false, receiving = 0;
  const emit = (signal) => outbox.push(JSON.parse(JSON.stringify(signal)));
  const peer = { pc, events, errors, channel: null };

  // While it makes an offer or takes a description in, its state is still the one before.
  peer.settled = () =>
    pc.signalingState === "stable" && !making && !receiving && !outbox.length;

  pc.onnegotiationneeded = async () => {
    try {
      making = true;
      await pc.setLocalDescription();
      emit({ type: "sdp", data: pc.localDescription });
    } catch (error) {
      errors.push(`offer: ${error}`);
    } finally {
      making = false;
    }
  };
  pc.onicecandidate = (event) => {
    if (event.candidate) emit({ type: "candidate", data: event.candidate });
  };
  pc.ontrack = ({ track, streams: [named] }) => {
    const stream = named || new MediaStream([track]);
    arrived.set(stream.id, (arrived.get(stream.id) || new Set()).add(track.id));
    stream.onremovetrack = (gone) => {
      events.push(["removetrack", gone.track.kind, gone.track.id, stream.id]);
      arrived.get(stream.id).delete(gone.track.id);
      if (!stream.getTracks().length) events.push(["removestream", stream.id]);
    };
    events.push(["track", track.kind, track.id, stream.id]);
  };
  const follow = (channel) => {
    peer.channel = channel;
    channel.onmessage = ({ data }) => events.push(["message", data]);
  };
  pc.ondatachannel = ({ channel }) => follow(channel);
  if (initiator) follow(pc.createDataChannel("dc_raw"));

  const receive = async ({ type, data }) => {
    receiving += 1;
    try {
      if (type === "candidate") {
        try {
          await pc.addIceCandidate(data);
        } catch (error) {
          if (!ignoring) throw error;
        }
        return;
      }
      const collision = data.type === "offer" && (making || pc.signalingState !== "stable");
      ignoring = initiator && collision;
      if (ignoring) return;
      await pc.setRemoteDescription(data);
      if (data.type === "offer") {
        await pc.setLocalDescription();
        emit({ type: "sdp", data: pc.localDescription });
      }
    } catch (error) {
      errors.push(`${type}: ${error}`);
    } finally {
      receiving -= 1;
    }
  };

  // Signals in, signals out; as on a socket nobody waits for what a signal does.
  peer.exchange = async (incoming, patience) => {
    incoming.forEach((signal) => void receive(signal));
    if (!incoming.length && !outbox.length) await new Promise((go) => setTimeout(go, patience));
    return outbox.splice(0);
  };
  peer.share = (name, kinds) => {
    const stream = new MediaStream(kinds.map((kind) => sources[kind]()));
    streams[name] = stream;
    peer.add(name);
    return stream.id;
  };
  peer.add = (name) => streams[name].getTracks().forEach((track) => pc.addTrack(track, streams[name]));
  peer.remove = (name) => {
    for (const track of streams[name].getTracks())
      pc.removeTrack(pc.getSenders().find((sender) => sender.track === track));
  };
  peer.remote = () => {
    const live = [];
    for (const [id, tracks] of arrived) if (tracks.size) live.push([id, tracks.size]);
    return Object.fromEntries(live);
  };
  // What the page's own description says it shares.
  peer.described = () => {
    const found = {};
    for (const section of pc.currentLocalDescription.sdp.split("\r\nm=").slice(1)) {
      const stream = /^a=msid:(\S+)/m.exec(section)?.[1];
      if (stream && /^a=(sendrecv|sendonly)\r?$/m.test(section) && !/^\w+ 0 /.test(section))
        found[stream] = (found[stream] || 0) + 1;
    }
    return found;
  };
  peer.received = async () => {
    const found = {};
    (await pc.getStats()).forEach((entry) => {
      if (entry.type === "inbound-rtp")
        found[entry.trackIdentifier] =
          entry.kind === "video" ? entry.framesDecoded : entry.packetsReceived;
    });
    return found;
  };
  window.peer = peer;
};

let audio;
const sources = {
  video() {
    const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
    const pen = canvas.getContext("2d");
    let hue = 0;
    setInterval(() => {
      pen.fillStyle = `hsl(${(hue += 10)}, 100%, 50%)`;
      pen.fillRect(0, 0, 160, 120);
    }, 100);
    return canvas.captureStream(10).getVideoTracks()[0];
  },
  audio() {
    audio = audio || new AudioContext();
    const oscillator = audio.createOscillator();
    const end = audio.createMediaStreamDestination();
    oscillator.connect(end);
    oscillator.start();
    return end.stream.getAudioTracks()[0];
  },
};
