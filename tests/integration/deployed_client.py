"""A user's client that behaves as the deployed release's does.

It knows nothing of this project but the contract, from which grpc_tools made
the modules in the folder that PYTHONPATH names. What it sends, in which order
and how long it waits, is what the release with that client was seen to do:

* REQ in a thread of its own, half a second later HELLO in another one;
* HELLO says PROD, also for a CONS session;
* five seconds for each of the two answers, and no deadline on any call;
* the word INVALID_TOKEN where there is no token;
* RELEASE with the UID and nothing else.

It prints one JSON object and exits with 0 whatever the gateway answered.
"""

import argparse
import concurrent.futures
import json
import time
import uuid

import grpc
import scistream_pb2
import scistream_pb2_grpc

METADATA = (("authorization", "INVALID_TOKEN"),)
PAUSE_BEFORE_HELLO = 0.5
PATIENCE = 5


class Client:
    """One gateway, on one channel for all calls."""

    def __init__(self, s2cs, certificate):
        with open(certificate, "rb") as file:
            credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
        self.channel = grpc.secure_channel(s2cs, credentials)
        self.control = scistream_pb2_grpc.ControlStub(self.channel)
        self.refusals = []

    def call(self, name, message):
        """Makes a call, and notes how it was refused, and after how long."""
        began = time.monotonic()
        try:
            return getattr(self.control, name)(message, metadata=METADATA)
        except grpc.RpcError as error:
            self.refusals.append(
                {
                    "call": name,
                    "code": error.code().name,
                    "details": error.details(),
                    "seconds": time.monotonic() - began,
                }
            )
            return None

    def rendezvous(self, args, role):
        """REQ and HELLO, side by side. Ends when both calls have ended."""
        application = [f"{args.remote_ip}:{port}" for port in args.receiver_ports.split(",")]
        request = scistream_pb2.Request(uid=args.uid, role=role, num_conn=args.num_conn, rate=args.rate)
        hello = scistream_pb2.Hello(uid=args.uid, role="PROD", prod_listeners=application)
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            requested = pool.submit(self.call, "req", request)
            time.sleep(PAUSE_BEFORE_HELLO)
            greeted = pool.submit(self.call, "hello", hello)
            answer = requested.result(timeout=PATIENCE)
            if role == "PROD":
                greeted.result(timeout=PATIENCE)
        return answer

    def update(self, uid, role, targets):
        message = scistream_pb2.UpdateTargets(uid=uid, role=role, remote_listeners=targets)
        return self.call("update", message)


def inbound(client, args):
    """The PROD half: targets are what the gateway says that HELLO announced."""
    answer = client.rendezvous(args, "PROD")
    if answer is not None and not client.refusals:
        client.update(args.uid, "PROD", answer.prod_listeners)
    return answer


def outbound(client, args):
    """The CONS half: targets are the listeners of the other facility, as typed."""
    answer = client.rendezvous(args, "CONS")
    if answer is not None:
        client.update(args.uid, "CONS", args.listeners.split(","))
    return answer


def release(client, args):
    return client.call("release", scistream_pb2.Release(uid=args.uid))


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("inbound", "outbound", "release"):
        command = commands.add_parser(name)
        command.add_argument("--s2cs", required=True)
        command.add_argument("--server_cert", required=True)
        command.add_argument("--uid", default=None)
        if name != "release":
            command.add_argument("--num_conn", type=int, default=5)
            command.add_argument("--rate", type=int, default=10000)
            command.add_argument("--remote_ip", default="localhost")
            command.add_argument("--receiver_ports", default="5074,5075,5076,37000,47000")
        if name == "outbound":
            command.add_argument("--listeners", required=True)
    return parser.parse_args()


def main():
    args = parse()
    if args.uid is None:
        args.uid = str(uuid.uuid1())
    client = Client(args.s2cs, args.server_cert)
    work = {"inbound": inbound, "outbound": outbound, "release": release}[args.command]
    answer = work(client, args)
    listeners = list(getattr(answer, "listeners", []))
    print(json.dumps({"uid": args.uid, "listeners": listeners, "refusals": client.refusals}))


if __name__ == "__main__":
    main()
