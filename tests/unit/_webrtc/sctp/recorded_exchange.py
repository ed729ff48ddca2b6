"""Packets that aiortc 1.16 sent to an association with the tag and TSN below, in order.

Recorded over a path without loss: INIT, INIT ACK, COOKIE ECHO (of a cookie this end cannot verify,
because its key is random), COOKIE ACK, the acknowledgement of DATA_CHANNEL_OPEN, three messages,
ABORT.
"""

LOCAL_TAG = 0x5EED0001
LOCAL_INITIAL_TSN = 0xFFFFFFFD
MESSAGES = [b"one", b"zwei", b"x" * 3000]
PACKETS_OF_AIORTC = [
    bytes.fromhex(text)
    for text in (
        (
            "13881388000000002473c5720100001e27eae3af00100000ffffffff7fed5625c000000480080006"
            "c0820000"
        ),
        (
            "138813885eed0001fee7f6fd0200003c27eae3af00100000ffffffff7fed5625c000000480080006"
            "c08200000007001c6b0e473d22c51532ecfe34a77335abfec27a988584b6fe6e"
        ),
        (
            "138813885eed00013a03ff4b0a00004240b9c8a7e1f8429c27eae3af00100000ffffffff7fed5625"
            "80080006c082bc9d999e79862a8a19a6b0c26ba57386a519fd5e1b01c162bf04507eae37b2f40000"
        ),
        "138813885eed0001803182db0b000004",
        "138813885eed00010baddbe7000300117fed5625000000000000003202000000",
        "138813885eed0001b247233503000010fffffffd0010000000000000",
        "138813885eed00016559f96b000300137fed562600000001000000356f6e6500",
        "138813885eed0001acbd1363000300147fed562700000002000000357a776569",
        ("138813885eed00019d49f2a2000204987fed56280000000300000035" + "78" * 1160),
        ("138813885eed0001f7e0bcce000004987fed56290000000300000035" + "78" * 1160),
        ("138813885eed0001093b6526000102b87fed562a0000000300000035" + "78" * 680),
        "138813885eed00012dc9a18b06000004",
    )
]
