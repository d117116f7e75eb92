"""What an application does with a broker of Kafka's protocol.

    kafka_client.py HOST:PORT COUNT

Makes a topic, publishes COUNT messages and reads them in order. Prints where the broker
says that it is, and how many messages came.
"""

import itertools
import logging
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

TOPIC = "frames"
PADDING = b"." * 10_000
DEADLINE = 30


def main():
    bootstrap, count = sys.argv[1], int(sys.argv[2])
    logging.basicConfig(level=logging.INFO)
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    for broker in admin.describe_cluster()["brokers"]:
        print(f"{broker['host']}:{broker['port']}", flush=True)
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    sent = [producer.send(TOPIC, b"%d " % number + PADDING) for number in range(count)]
    for number, acknowledged in enumerate(sent):
        assert acknowledged.get(DEADLINE).offset == number

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=DEADLINE * 1000
    )
    # Without a group, whose members Tansu keeps waiting.
    consumer.assign([TopicPartition(TOPIC, 0)])
    came = [message.value for message in itertools.islice(consumer, count)]
    assert came == [b"%d " % number + PADDING for number in range(count)], "other messages came"
    consumer.close()
    print(len(came))


if __name__ == "__main__":
    main()
