"""What an application does with RabbitMQ, at 127.0.0.1:PORT as the user `daq`.

    rabbitmq_client.py messages PORT COUNT     publishes COUNT messages, and consumes them in order
    rabbitmq_client.py idle PORT               keeps a connection until the broker is silent
    rabbitmq_client.py stream PORT COUNT       the same as messages, over the stream protocol

`messages` and `stream` print how many came; `stream` also where the broker says that it
is. `idle` says `beats` when heartbeats came through, and `silent` at the end.
"""

import asyncio
import itertools
import sys

import pika
import pika.exceptions

CREDENTIALS = ("daq", "secret")
QUEUE = "frames"
PADDING = b"." * 60_000
DEADLINE = 30


def connect(port, heartbeat):
    credentials = pika.PlainCredentials(*CREDENTIALS)
    parameters = pika.ConnectionParameters("127.0.0.1", port, heartbeat=heartbeat, credentials=credentials)
    return pika.BlockingConnection(parameters)


def messages(port, count):
    with connect(port, 10) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, exclusive=True)
        # So that the broker says of each that it has it.
        channel.confirm_delivery()
        for number in range(count):
            channel.basic_publish("", QUEUE, b"%d " % number + PADDING, mandatory=True)
        channel.basic_qos(prefetch_count=20)
        coming = channel.consume(QUEUE, inactivity_timeout=DEADLINE)
        for number, (method, _, body) in enumerate(itertools.islice(coming, count)):
            assert method is not None, f"message {number} does not come"
            assert body == b"%d " % number + PADDING, f"not message {number}"
            channel.basic_ack(method.delivery_tag)
        channel.cancel()
    print(count)


def idle(port):
    connection = connect(port, 1)
    checker = connection._impl._heartbeat_checker
    while checker._heartbeat_frames_received < 2:
        connection.process_data_events(time_limit=1)
    print("beats", flush=True)
    try:
        while True:
            connection.process_data_events(time_limit=1)
    except pika.exceptions.AMQPHeartbeatTimeout:
        print("silent")


async def stream(port, count):
    from rstream import AMQPMessage, Consumer, ConsumerOffsetSpecification, OffsetType, Producer, amqp_decoder

    user, password = CREDENTIALS
    async with Producer("127.0.0.1", port, username=user, password=password) as producer:
        await producer.create_stream(QUEUE, exists_ok=True)
        client = await producer.default_client
        leader, _ = await client.query_leader_and_replicas(QUEUE)
        print(f"{leader.host}:{leader.port}")
        for number in range(count):
            await producer.send_wait(QUEUE, AMQPMessage(body=b"%d " % number + PADDING))

    came = asyncio.Queue()
    async with Consumer("127.0.0.1", port, username=user, password=password) as consumer:
        await consumer.subscribe(
            QUEUE,
            lambda message, _: came.put_nowait(bytes(message.body)),
            decoder=amqp_decoder,
            offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
        )
        for number in range(count):
            body = await asyncio.wait_for(came.get(), DEADLINE)
            assert body == b"%d " % number + PADDING, f"not message {number}"
    print(count)


def main():
    match sys.argv[1:]:
        case ["messages", port, count]:
            messages(int(port), int(count))
        case ["idle", port]:
            idle(int(port))
        case ["stream", port, count]:
            asyncio.run(stream(int(port), int(count)))


if __name__ == "__main__":
    main()
