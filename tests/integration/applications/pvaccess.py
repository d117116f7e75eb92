"""A server or a client of EPICS pvAccess, which get all addresses from the environment.

    pvaccess.py serve
    pvaccess.py use UPDATES

The server has an image, and a counter that goes up by one with each put to it. The
client reads the image, writes it backwards, and puts to the counter until a monitor of
it has shown all UPDATES, in order. It prints how many.
"""

import queue
import sys

import numpy
from p4p.client.thread import Context, Disconnected
from p4p.nt import NTScalar
from p4p.server import Server
from p4p.server.thread import SharedPV

IMAGE = numpy.arange(1_000_000, dtype="f8")
DEADLINE = 30


def serve():
    image = SharedPV(nt=NTScalar("ad"), initial=IMAGE)
    count = SharedPV(nt=NTScalar("l"), initial=0)

    @image.put
    def keep(pv, operation):
        pv.post(operation.value())
        operation.done()

    @count.put
    def step(pv, operation):
        pv.post(pv.current() + 1)
        operation.done()

    Server.forever(providers=[{"daq:image": image, "daq:count": count}])


def use(updates):
    with Context("pva") as context:
        assert (context.get("daq:image", timeout=DEADLINE) == IMAGE).all(), "another image came"
        context.put("daq:image", IMAGE[::-1], timeout=DEADLINE)
        assert (context.get("daq:image", timeout=DEADLINE) == IMAGE[::-1]).all(), "another image went"

        seen = queue.Queue()
        with context.monitor("daq:count", seen.put, notify_disconnect=True):
            value = seen.get(timeout=DEADLINE)
            while isinstance(value, Disconnected):
                value = seen.get(timeout=DEADLINE)
            assert value == 0, f"{value} is not the first"
            for number in range(1, updates + 1):
                context.put("daq:count", 0, timeout=DEADLINE)
                value = seen.get(timeout=DEADLINE)
                assert value == number, f"{value} is not {number}"
    print(updates)


def main():
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["use", updates]:
            use(int(updates))


if __name__ == "__main__":
    main()
