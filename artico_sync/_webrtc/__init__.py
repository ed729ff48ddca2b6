"""A WebRTC stack on asyncio, usable and testable without the rest of artico_sync.

aiortc provides codecs, DTLS, RTP packets and SDP syntax; the transports, congestion control, the
media paths and the negotiation are in this package. Terms of the code, with the standard that
defines each and the place where it is used:

Offer and answer (`sdp/`, `peer_connection.py`)
    JSEP                     The offer/answer state machine of a connection: RFC 8829.
    SDP, m-section, mid      A description, one of its media descriptions, and the id of that one:
                             RFC 8866, RFC 5888; `sdp/media_sections.py`.
    BUNDLE                   All m-sections share one transport: RFC 9143; `transports.py`.
    msid                     The ids of the stream and the track of an m-section: RFC 8830.
    recycling                Rejecting unused m-sections and using them again: RFC 8829 5.2.2;
                             `sdp/offer_answer.py`.
    rollback, stale offer    Withdrawing a pending offer; the withdrawn offer, to which a late
                             answer may still arrive: RFC 8829 4.1.10; `sdp/offer_answer.py`.
    glare                    Offers of both sides that cross, resolved by perfect negotiation: W3C
                             WebRTC 10.7; `artico_sync/_engine/negotiation.py`.
    payload type, extmap id  Numbers for codecs and header extensions, with one meaning per
                             connection: RFC 5761, RFC 8285; `sdp/rtp_ids.py`.

Network paths (`ice/`)
    candidate, trickle       An address that may reach a peer, and sending each when it is found:
                             RFC 8445, RFC 8838.
    ufrag, pwd               Credentials of ICE; new ones restart it: RFC 8839 5.4.
    connectivity check       A STUN Binding request over a candidate pair: RFC 8445 7.
    nomination               The controlling side's choice of the pair to use: RFC 8445 8.
    Ta                       The interval between checks: RFC 8445 14.2; `ice/check_scheduler.py`.
    consent                  The peer's regular agreement to receive: RFC 7675; `ice/consent.py`.
    ICE restart              New credentials, candidates and checks: RFC 8445 9.
    STUN, TURN               Discovering one's public address, and relaying: RFC 8489, RFC 8656.
    GSO                      Passing several datagrams to the kernel at once (UDP_SEGMENT of
                             Linux): `net/udp.py`.

Encryption (`dtls/`)
    DTLS role, fingerprint   Client or server of the handshake, and the hash of the certificate that
                             the description announces: RFC 8842, RFC 8122.
    SRTP                     Encrypted RTP with keys from DTLS: RFC 5764.

Data channels (`sctp/`)
    TSN, SSN                 Sequence numbers of a chunk and of a message in its stream: RFC 9260
                             3.3.1.
    SACK                     The acknowledgment of chunks, with gaps: RFC 9260 3.3.4.
    cwnd, ssthresh           Congestion window and slow start threshold: RFC 9260 7.2.
    a_rwnd, peer_rwnd        The receive window announced by this end and by the peer: RFC 9260 6.
    srtt, rttvar, rto        Smoothed round-trip time, its variation, and the retransmission
                             timeout: RFC 9260 6.3.
    T3-rtx                   The retransmission timer: RFC 9260 6.3.2.
    fast recovery            The period after a fast retransmission: RFC 9260 7.2.4.
    Eifel                    Undoing a reduction after a spurious timeout: RFC 4015.
    DCEP                     The opening handshake of a data channel: RFC 8832; `sctp/dcep.py`.
    path MTU discovery       Probing for the largest packet: RFC 8899; `sctp/path_mtu.py`.
    stream reset             Closing a data channel: RFC 6525; `sctp/stream_reset.py`.

Media (`rtp/`, `media/`)
    SSRC, CNAME              The id of an RTP stream and of its sender: RFC 3550.
    RTX                      Retransmission as a stream of its own: RFC 4588.
    NACK, PLI                Requests for lost packets and for a keyframe: RFC 4585.
    REMB                     The receiver's estimate of the available bandwidth:
                             draft-alvestrand-rmcat-remb.
    keyframe                 A frame that can be decoded without earlier ones.
    jitter buffer            Puts packets in order and assembles frames: `rtp/jitter_buffer.py`.
    fanout                   One source of frames shared by several calls: `media/fanout.py`.

Terms of the layers above
    portal                   Runs functions on the loop thread: `artico_sync/_bridge/portal.py`.
    mailbox                  Holds events until a handler or a wait takes them:
                             `artico_sync/_bridge/events/mailbox.py`.
"""
