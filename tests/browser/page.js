// The page of the interop tests: one Artico of @rtco/client, driven by BrowserPeer through
// window.interop. Everything that happens is appended to one log, in order, and every wait
// is for an entry of that log or for a condition checked after each entry.
import { Artico, SocketSignaling } from "@rtco/client";
import * as rtco from "@rtco/client";
import { iceFunctions, latestConnection, watchIce } from "./page_ice.js";
import { mediaFunctions } from "./page_media.js";

window.rtco = rtco;

const log = [];
const calls = new Map();
const waiters = new Set();
let artico;
let answering = "no";
let echoing = false;

function record(session, name, ...args) {
  log.push({ session, name, args });
  for (const check of [...waiters]) check();
}

function until(condition, describe, limit) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      waiters.delete(check);
      reject(new Error(`waited ${limit} ms for ${describe}; log: ${summary()}`));
    }, limit);
    function check() {
      const result = condition();
      if (result === undefined) return;
      waiters.delete(check);
      clearTimeout(timer);
      resolve(result);
    }
    waiters.add(check);
    check();
  });
}

function summary() {
  return log
    .slice(-40)
    .map(({ session, name, args }) => `${session}/${name}(${JSON.stringify(args).slice(0, 80)})`)
    .join(" ");
}

// Chromium sometimes announces a channel as open, takes it for connecting once more, and
// announces it a second time, some milliseconds later: what is sent between would be refused.
// The state itself is looked at, because it may come back without another event. On a busy
// machine it sometimes never does: the connection's statistics call the channel open then, data
// arrives on it, and the page's object stays "connecting" (one call in a thousand or fewer).
async function ready(call) {
  if (call.ready) return;
  record(call.session, "not ready");
  const look = setInterval(() => [...waiters].forEach((check) => check()), 20);
  try {
    await until(() => call.ready || undefined, `${call.session} to be ready`, 15000);
  } finally {
    clearInterval(look);
  }
}

function follow(call) {
  const known = {
    call,
    connection: null,
    received: [],
    tracks: new Map(),
    streams: new Map(),
    opened: false,
    echo: Promise.resolve(),
  };
  calls.set(call.session, known);
  const note = (name, ...args) => record(call.session, name, ...args);
  call.on("open", () => {
    note(known.opened ? "open again" : "open");
    known.opened = true;
  });
  call.on("close", () => note("close"));
  call.on("error", (error) => note("error", String(error)));
  call.on("data", (data) => {
    known.received.push(data);
    if (echoing) {
      known.echo = known.echo
        .then(() => ready(call))
        .then(() => call.send(data))
        .catch((error) => note("no echo", String(error)));
    }
    note("data");
  });
  call.on("stream", (stream, metadata) => {
    known.streams.set(stream.id, { stream, metadata });
    note("stream", stream.id, metadata);
  });
  call.on("removestream", (stream, metadata) => {
    known.streams.delete(stream.id);
    note("removestream", stream.id, metadata);
  });
  call.on("track", (track, stream, metadata) => {
    known.tracks.set(track.id, track);
    note("track", track.kind, track.id, stream.id, metadata);
  });
  call.on("removetrack", (track, stream, metadata) => {
    // When it is shared again, it comes as another object.
    if (known.tracks.get(track.id) === track) known.tracks.delete(track.id);
    note("removetrack", track.kind, track.id, stream.id, metadata);
  });
  return call.session;
}

// A call makes its connection when it is placed or answered.
function connect(session) {
  const known = calls.get(session);
  known.connection = latestConnection();
  watchIce(known.connection, (state) => record(session, "ice", state));
  return session;
}

function answer(session) {
  calls.get(session).call.answer();
  connect(session);
}

window.interop = {
  start(url, id) {
    const options = { url, debug: 1 };
    if (id !== null) options.id = id;
    artico = new Artico({
      signaling: new SocketSignaling(options),
      rtcConfig: { iceServers: [] },
    });
    artico.on("open", (own) => record("", "open", own));
    artico.on("close", () => record("", "close"));
    artico.on("error", (error) => record("", "error", error.message));
    artico.on("call", (call) => {
      follow(call);
      if (answering === "yes") answer(call.session);
      record("", "call", call.session);
    });
  },

  id: () => artico.id,
  state: () => artico.state,
  stop: () => artico.close(),
  configure(answer, echo) {
    answering = answer;
    echoing = echo;
  },

  call: (target, metadata) => connect(follow(artico.call(target, metadata ?? undefined))),
  answer,
  hangup: (session) => calls.get(session).call.hangup(),
  async send(session, texts) {
    const { call } = calls.get(session);
    await ready(call);
    for (const text of texts) await call.send(text);
  },
  async sendBuilt(session, unit, times) {
    const { call } = calls.get(session);
    await ready(call);
    await call.send(unit.repeat(times));
  },
  async sendNumbered(session, count, size) {
    const { call } = calls.get(session);
    await ready(call);
    for (let number = 0; number < count; number++) await call.send(`${number} `.padEnd(size, "x"));
  },
  // Send numbers, one every `interval` milliseconds, until `stopCounting` says how many it were.
  async count(session, interval) {
    const known = calls.get(session);
    await ready(known.call);
    known.counted = 0;
    known.counting = setInterval(() => {
      known.call.send(`${known.counted}`);
      known.counted += 1;
    }, interval);
  },
  stopCounting(session) {
    const known = calls.get(session);
    clearInterval(known.counting);
    return known.counted;
  },
  async properties(session) {
    const { call } = calls.get(session);
    await ready(call);
    return {
      session: call.session,
      metadata: call.metadata ?? null,
      target: call.target,
      initiator: call.initiator,
      ready: call.ready,
    };
  },

  log: () => log,
  received: (session) => calls.get(session).received,

  // The first `count` messages of a call.
  receive: (session, count, limit) =>
    until(
      () => {
        const { received } = calls.get(session);
        return received.length >= count ? received.slice(0, count) : undefined;
      },
      `${count} messages of ${session}`,
      limit,
    ),

  // The entry number `count` of that name; the first one is number 1.
  event: (session, name, count, limit) =>
    until(
      () => log.filter((entry) => entry.session === session && entry.name === name)[count - 1],
      `${session}/${name} number ${count}`,
      limit,
    ),

  ...mediaFunctions(calls, until, ready),
  ...iceFunctions(calls),
};
