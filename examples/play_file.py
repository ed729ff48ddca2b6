"""Call a peer and play a film, a song or a camera to it: play_file.py PEER FILE."""

import os
import sys
import time

from artico_sync import Artico, ArticoError, MediaStream

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, path = sys.argv[1:]
try:
    film = MediaStream.from_file(path)
    with Artico() as rtco, rtco.call(peer) as call:
        # It begins when the peer can see it.
        call.add_stream(film, metadata=os.path.basename(path))
        print("playing", path, flush=True)
        while call.open and not film.ended:
            time.sleep(0.1)
    print("played to the end" if film.ended else f"{peer} hung up")
except ArticoError as error:
    sys.exit(f"{path} cannot be played to {peer}: {error.message}")
