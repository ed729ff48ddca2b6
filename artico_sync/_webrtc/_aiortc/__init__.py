"""The only place that names a private name of aiortc, aioice, pyOpenSSL or janus.

Classes here derive from those of these libraries and give public names to what the rest of
`_webrtc` needs: an `Alias` for an attribute or a method, and a method for each hook that their code
calls.
"""
