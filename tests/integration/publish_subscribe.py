"""A publisher or a subscriber of numbered messages, over ZeroMQ.

    publish_subscribe.py publish PORT COUNT
    publish_subscribe.py subscribe PORT COUNT

The publisher waits for the subscription, sends the numbers in order, and ends
when the subscription has ended. The subscriber prints how many it got in order.
"""

import sys

import zmq

TOPIC = b"n"
DEADLINE_MS = 30_000
PADDING = b"." * 1000


def publish(context, port, count):
    # What a PUB socket is, but it also tells of subscriptions.
    socket = context.socket(zmq.XPUB)
    socket.sndhwm = 0
    socket.rcvtimeo = DEADLINE_MS
    socket.bind(f"tcp://127.0.0.1:{port}")
    assert socket.recv() == b"\x01" + TOPIC, "something else than the subscription came"
    for number in range(count):
        socket.send_multipart([TOPIC, b"%d" % number, PADDING])
    assert socket.recv() == b"\x00" + TOPIC, "something else than the end of the subscription came"
    print(count)


def subscribe(context, port, count):
    socket = context.socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.rcvtimeo = DEADLINE_MS
    socket.connect(f"tcp://127.0.0.1:{port}")
    socket.subscribe(TOPIC)
    for number in range(count):
        assert socket.recv_multipart() == [TOPIC, b"%d" % number, PADDING], f"not message {number}"
    socket.close()
    print(count)


def main():
    command, port, count = sys.argv[1:]
    with zmq.Context() as context:
        {"publish": publish, "subscribe": subscribe}[command](context, port, int(count))


if __name__ == "__main__":
    main()
