#!/usr/bin/env python3
"""Consumers as a Python user would write them, for comparison with Aegis.

    peer.py RULE BROKERS EVENTS OUT GROUP MODELS HEAD [cuda]

Each reads JSON events, scores the judged turn with one head on the bundled encoder through ONNX Runtime, and
writes a JSON decision; offsets are committed after the outputs. RULE says how batches are formed:

plain    batches of 32 records, padded to the longest; one session with all cores, as in the tutorials.
sorted   a window of 256 records sorted by length, batches of at most 256 padded tokens, and one session of one
         thread for each core: the result of measuring and tuning.
queue    first come, first served, until the rows times the longest row reach 16,384 tokens: the batching rule of
         text-embeddings-inference, on this runtime; one session with all cores.

With `cuda`, graphs run on the first NVIDIA card, through onnxruntime-gpu, which finds NVIDIA's libraries on
LD_LIBRARY_PATH. The settings of `sorted` then suit a card: a window of 4,096, 16,384 padded tokens, two sessions.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded

import numpy
import onnxruntime
from confluent_kafka import Consumer, Producer
from tokenizers import Tokenizer

MAX_TOKENS = 256
WINDOW = 256
SORTED_BUDGET = 256
SORTED_ROWS = 32
QUEUE_BUDGET = 16_384
QUEUE_ROWS = 512


CARD_WINDOW = 4_096
CARD_BUDGET = 16_384
CARD_ROWS = 1_024
CARD_SESSIONS = 2


class Scorer:
    """The encoder and one head, each with its own session."""

    def __init__(self, models, head, threads, provider):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1

        def load(name):
            session = onnxruntime.InferenceSession(f"{models}/{name}/model.onnx", options, providers=[provider])
            # onnxruntime replaces a provider that is not available by the processor, and only prints a warning.
            if session.get_providers()[0] != provider:
                sys.exit(f"peer.py: {provider} is not available: see onnxruntime's warning above")
            return session

        self.encoder, self.head = load("minilm"), load(head)

    def score(self, rows):
        longest = max(len(row) for row in rows)
        ids = numpy.zeros((len(rows), longest), numpy.int64)
        mask = numpy.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        (embedding,) = self.encoder.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        (scores,) = self.head.run(["scores"], {"embedding": embedding})
        return scores.max(axis=1).tolist()


def plain(rows, scorers):
    return scorers[0].score(rows)


def cut(lengths, budget, most):
    """Groups neighbours while the rows times the longest row stay within the budget."""
    batch, longest = [], 0
    for place, length in lengths:
        if batch and (max(longest, length) * (len(batch) + 1) > budget or len(batch) == most):
            yield batch
            batch, longest = [], 0
        batch.append(place)
        longest = max(longest, length)
    if batch:
        yield batch


def queued(rows, scorers):
    out = []
    for batch in cut(((i, len(row)) for i, row in enumerate(rows)), QUEUE_BUDGET, QUEUE_ROWS):
        out.extend(scorers[0].score([rows[i] for i in batch]))
    return out


def sorted_(rows, scorers, pool, budget, most):
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
    batches = list(cut(((i, len(rows[i])) for i in order), budget, most))
    free = list(scorers)

    def run(batch):
        scorer = free.pop()
        try:
            return scorer.score([rows[i] for i in batch])
        finally:
            free.append(scorer)

    out = [0.0] * len(rows)
    for batch, scores in zip(batches, pool.map(run, batches)):
        for place, score in zip(batch, scores):
            out[place] = score
    return out


def main():
    rule, brokers, events, out, group, models, head = sys.argv[1:8]
    card = sys.argv[8:9] == ["cuda"]
    provider = "CUDAExecutionProvider" if card else "CPUExecutionProvider"
    cores = len(os.sched_getaffinity(0))
    tokenizer = Tokenizer.from_file(f"{models}/minilm/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    if rule == "sorted":
        sessions, most = (CARD_SESSIONS, CARD_WINDOW) if card else (cores, WINDOW)
        limits = (CARD_BUDGET, CARD_ROWS) if card else (SORTED_BUDGET, SORTED_ROWS)
        scorers = [Scorer(models, head, 1, provider) for _ in range(sessions)]
        pool = ThreadPoolExecutor(sessions)
        score = lambda rows: sorted_(rows, scorers, pool, *limits)  # noqa: E731
    else:
        scorers = [Scorer(models, head, cores, provider)]
        most = 32 if rule == "plain" else QUEUE_ROWS
        score = lambda rows: (plain if rule == "plain" else queued)(rows, scorers)  # noqa: E731

    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "fetch.wait.max.ms": 100,
    })
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 1, "compression.type": "lz4"})
    consumer.subscribe([events])
    while True:
        messages = consumer.consume(most, 0.1)
        if not messages:
            continue
        read = [json.loads(message.value()) for message in messages]
        texts = [event["turns"][event.get("judged", -1)]["text"] for event in read]
        rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        for message, event, p in zip(messages, read, score(rows)):
            decision = {"event_id": event["id"], "p": p, "action": "block" if p >= 0.5 else "allow"}
            producer.produce(out, json.dumps(decision), message.key(), message.partition())
        producer.flush()
        consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
