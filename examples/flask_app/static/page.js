// The page's side: calls the Python process that served it.
import { Artico, SocketSignaling } from "https://esm.sh/@rtco/client@0.2.20";

const { peer, signaling } = document.body.dataset;
const byId = (id) => document.getElementById(id);
const show = (id, text) => (byId(id).textContent = text);

const rtco = new Artico({
  signaling: new SocketSignaling({ url: signaling }),
  rtcConfig: { iceServers: [] }, // both ends are on this machine
});
let call = null;

rtco.on("open", (id) => show("id", id));
rtco.on("error", (error) => show("state", `error: ${error.message}`));
// Somebody calls this page, perhaps the application's own /ask.
rtco.on("call", (incoming) => {
  incoming.on("data", (text) => incoming.send(`The page heard: ${text}`));
  incoming.answer();
});

function start() {
  call = rtco.call(peer, "from the page");
  call.on("open", async () => {
    show("state", "in a call");
    byId("hangup").disabled = false;
    call.send(byId("text").value);
    const camera = await navigator.mediaDevices.getUserMedia({ video: true });
    byId("camera").srcObject = camera;
    call.addStream(camera);
  });
  call.on("data", (text) => show("reply", text));
  call.on("stream", (stream, metadata) => {
    byId("processed").srcObject = stream;
    byId("processed").title = metadata;
  });
  call.on("close", () => {
    show("state", "not in a call");
    byId("call").disabled = false;
    byId("hangup").disabled = true;
    byId("camera").srcObject?.getTracks().forEach((track) => track.stop());
    byId("camera").srcObject = byId("processed").srcObject = null;
  });
}

byId("call").addEventListener("click", () => {
  byId("call").disabled = true;
  show("state", "calling");
  start();
});
byId("hangup").addEventListener("click", () => call.hangup());
byId("talk").addEventListener("submit", (event) => {
  event.preventDefault();
  call?.send(byId("text").value);
});
