// Streams of one colour and one tone to share from the page, and what it sees and hears of the
// streams it gets.

const FPS = 15;
const LOOK_INTERVAL = 40;
const FFT_SIZE = 8192;
const AUDIBLE_DB = -60;

let audio;
const sources = new Map();
let releaseMetadata;

function audioContext() {
  audio ??= new AudioContext();
  return audio;
}

function videoTrack(colour) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [160, 120];
  const context = canvas.getContext("2d");
  const draw = () => {
    context.fillStyle = `rgb(${colour.join(",")})`;
    context.fillRect(0, 0, canvas.width, canvas.height);
  };
  draw();
  // A canvas gives a picture when it is drawn on.
  setInterval(draw, 1000 / FPS);
  return canvas.captureStream(FPS).getTracks()[0];
}

function audioTrack(frequency) {
  const oscillator = audioContext().createOscillator();
  const destination = audioContext().createMediaStreamDestination();
  oscillator.frequency.value = frequency;
  oscillator.connect(destination);
  oscillator.start();
  return destination.stream.getTracks()[0];
}

// Look at something again and again until it is as wanted.
async function watch(look, wanted, describe, limit) {
  const deadline = performance.now() + limit;
  let found;
  do {
    found = look();
    if (found !== undefined && wanted(found)) return found;
    await new Promise((go) => setTimeout(go, LOOK_INTERVAL));
  } while (performance.now() < deadline);
  throw new Error(`waited ${limit} ms for ${describe}, in the end ${JSON.stringify(found)}`);
}

export function mediaFunctions(calls, until, ready) {
  async function track(session, id, limit) {
    return until(() => calls.get(session).tracks.get(id), `the track ${id}`, limit);
  }

  return {
    // A stream of the page's own; null leaves a kind out.
    makeStream(colour, frequency) {
      const tracks = [];
      if (colour !== null) tracks.push(videoTrack(colour));
      if (frequency !== null) tracks.push(audioTrack(frequency));
      const stream = new MediaStream(tracks);
      sources.set(stream.id, { stream });
      return { id: stream.id, tracks: stream.getTracks().map((one) => [one.kind, one.id]) };
    },
    // The browser's own camera and microphone, which are made up: something that moves and beeps.
    async makeCamera(width, height) {
      const stream = await navigator.mediaDevices.getUserMedia({
        video: { width, height },
        audio: true,
      });
      sources.set(stream.id, { stream });
      return { id: stream.id, tracks: stream.getTracks().map((one) => [one.kind, one.id]) };
    },
    async addStream(session, id, metadata) {
      const { call } = calls.get(session);
      await ready(call);
      call.addStream(sources.get(id).stream, metadata ?? undefined);
    },
    // The same between the next offer the page applies and its answer.
    async addStreamBeforeAnswer(session, id, metadata) {
      await ready(calls.get(session).call);
      const original = RTCPeerConnection.prototype.setLocalDescription;
      RTCPeerConnection.prototype.setLocalDescription = function apply(...args) {
        if (this.signalingState === "have-remote-offer") {
          RTCPeerConnection.prototype.setLocalDescription = original;
          calls.get(session).call.addStream(sources.get(id).stream, metadata);
        }
        return original.apply(this, args);
      };
    },
    // A stream, which is taken back and shared again before its offer is answered.
    async addStreamTwice(session, id, metadata, again) {
      const { call } = calls.get(session);
      await ready(call);
      const { stream } = sources.get(id);
      const original = RTCPeerConnection.prototype.setRemoteDescription;
      RTCPeerConnection.prototype.setRemoteDescription = function apply(...args) {
        if (this.signalingState === "have-local-offer") {
          RTCPeerConnection.prototype.setRemoteDescription = original;
          call.removeStream(stream);
          call.addStream(stream, again);
        }
        return original.apply(this, args);
      };
      call.addStream(stream, metadata);
    },
    // What is said about streams stays behind from now on, as on a network that lost it.
    holdMetadata() {
      const { send } = RTCDataChannel.prototype;
      const held = [];
      RTCDataChannel.prototype.send = function hold(data) {
        if (String(data).includes('"stream-meta"')) held.push(() => send.call(this, data));
        else send.call(this, data);
      };
      releaseMetadata = () => {
        RTCDataChannel.prototype.send = send;
        held.forEach((late) => late());
      };
    },
    releaseMetadata: () => releaseMetadata(),
    removeStream: (session, id) =>
      calls.get(session).call.removeStream(sources.get(id).stream),
    addTrack(session, id, kind) {
      const { stream } = sources.get(id);
      const one = stream.getTracks().find((each) => each.kind === kind);
      return calls.get(session).call.addTrack(one, stream);
    },
    removeTrack(session, id, kind) {
      const { stream } = sources.get(id);
      return calls.get(session).call.removeTrack(
        stream.getTracks().find((each) => each.kind === kind),
      );
    },

    // What is shared with us now: id, metadata, and kind and id of each track.
    streams: (session) =>
      [...calls.get(session).streams.values()].map(({ stream, metadata }) => [
        stream.id,
        metadata || null,
        stream.getTracks().map((one) => [one.kind, one.id]),
      ]),

    async seeColour(session, id, colour, tolerance, limit) {
      const video = document.createElement("video");
      Object.assign(video, { muted: true, autoplay: true });
      video.srcObject = new MediaStream([await track(session, id, limit)]);
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [8, 8];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      const look = () => {
        if (!video.videoWidth) return undefined;
        context.drawImage(video, 0, 0, canvas.width, canvas.height);
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        return [0, 1, 2].map((channel) => {
          let sum = 0;
          for (let at = channel; at < data.length; at += 4) sum += data[at];
          return Math.round((4 * sum) / data.length);
        });
      };
      const near = (seen) => seen.every((value, at) => Math.abs(value - colour[at]) < tolerance);
      try {
        return await watch(look, near, `the colour ${colour}`, limit);
      } finally {
        video.srcObject = null;
      }
    },

    async hearTone(session, id, frequency, tolerance, limit) {
      const stream = new MediaStream([await track(session, id, limit)]);
      // Chromium gives WebAudio the sound of a peer only if an element plays it as well.
      const player = new Audio();
      Object.assign(player, { muted: true, autoplay: true, srcObject: stream });
      const source = audioContext().createMediaStreamSource(stream);
      const analyser = audioContext().createAnalyser();
      analyser.fftSize = FFT_SIZE;
      source.connect(analyser);
      const levels = new Float32Array(analyser.frequencyBinCount);
      const look = () => {
        analyser.getFloatFrequencyData(levels);
        let best = 1;
        for (let bin = 1; bin < levels.length; bin += 1) if (levels[bin] > levels[best]) best = bin;
        if (!(levels[best] > AUDIBLE_DB)) return undefined;
        return (best * audioContext().sampleRate) / FFT_SIZE;
      };
      const near = (heard) => Math.abs(heard - frequency) < tolerance;
      try {
        return await watch(look, near, `a tone of ${frequency} Hz`, limit);
      } finally {
        source.disconnect();
        player.srcObject = null;
      }
    },
  };
}
