"""A Flask application that answers calls of its own page, and places calls for its requests.

    artico-sync serve &
    flask --app app run            # or: gunicorn -c gunicorn.conf.py 'app:create_app()'

The page calls the Python side of the same application, says hello, and shows its camera as Python
sends it back: as a negative. `POST /ask` with `{"peer": ..., "text": ..., "timeout": ...}` calls
any peer, such as the page itself, and answers what that peer said.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from artico_sync import (
    ArticoTimeoutError,
    Call,
    CallRejectedError,
    MediaStream,
    PeerUnavailableError,
    SignalingError,
)
from artico_sync.contrib.flask import ArticoExtension, current_artico

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    from artico_sync.media import RemoteTrack

LONGEST_WAIT = 20.0

artico = ArticoExtension()


def create_app(config: dict[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config["ARTICO_URL"] = os.environ.get("ARTICO_URL", "http://localhost:9000")
    app.config["GREETING"] = "Hello from Flask"
    app.config.update(config or {})
    artico.init_app(app)
    app.add_url_rule("/", view_func=index)
    app.add_url_rule("/ask", view_func=ask, methods=["POST"])
    return app


def index() -> str:
    """Serve the page, with the id of the process that serves it."""
    return render_template(
        "index.html", peer=current_artico.id, signaling=current_app.config["ARTICO_URL"]
    )


def ask() -> ResponseReturnValue:
    """Call a peer, send a text, and respond with its reply."""
    wanted = request.get_json()
    peer, text = str(wanted["peer"]), str(wanted["text"])
    timeout = min(float(wanted.get("timeout", 5)), LONGEST_WAIT)
    try:
        with artico.calling(peer, metadata="ask", timeout=timeout) as call:
            call.send(text)
            return jsonify(peer=peer, answer=call.recv(timeout))
    except ArticoTimeoutError as error:
        # The call is cancelled: the other side does not ring any more.
        return jsonify(error=str(error)), 504
    except PeerUnavailableError as error:
        return jsonify(error=str(error)), 404
    except CallRejectedError as error:
        return jsonify(error=str(error)), 409
    except SignalingError as error:
        return jsonify(error=str(error)), 503


@artico.on("call")
def incoming(call: Call) -> None:
    greeting = current_app.config["GREETING"]

    def reply(text: str | bytes) -> None:
        call.send(f"{greeting}: {text!s}")

    def process(track: RemoteTrack) -> None:
        if track.kind == "video":
            call.add_stream(MediaStream([track.map(negative)]), metadata="negative")

    call.on("data", reply)
    call.on("track", process)
    call.answer()


def negative(picture: NDArray[uint8]) -> NDArray[uint8]:
    return 255 - picture
