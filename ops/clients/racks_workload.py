"""Writes and reads through boto3 without pause while racks die, and at the end reads back all that was acknowledged.

Driven through standard input, one command a line, each answered with one line of JSON:
  mark       counts since the last mark: acknowledged writes, verified reads, errors by name
  endpoints URL…   where to send requests from now on
  write N SECONDS SIZE…   writes N objects, the sizes in turn, each again and again until it is acknowledged or the time
             is over; how many of all acknowledged there are, and their bytes
  verify     stops the load, then reads every acknowledged object from every endpoint in turn
  quit
A client error while nodes die is expected and counted; a wrong byte or a lost acknowledged object never is.
"""

import hashlib
import json
import os
import random
import sys
import threading
import time

from common import ENDPOINT, boto3_client

BUCKET = "racks"
WRITERS, READERS = 4, 2
SIZES = (1, 700, 40_000, 300_000, 2_500_000, 9_000_000)


class Workload:
    def __init__(self, seed):
        self.seed = seed
        self.lock = threading.Lock()
        self.acknowledged = {}
        self.wrong = []
        self.counts = {}
        self.stop = threading.Event()
        self.endpoints = [ENDPOINT]
        self.threads = []
        self.clients = {}

    def client(self, rng):
        with self.lock:
            endpoint = rng.choice(self.endpoints)
            if endpoint not in self.clients:
                self.clients[endpoint] = boto3_client(
                    endpoint, connect_timeout=2, read_timeout=20, retries={"max_attempts": 0}, max_pool_connections=WRITERS + READERS
                )
            return self.clients[endpoint]

    def count(self, name):
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + 1

    def body(self, key, size):
        return random.Random(f"{self.seed} {key}").randbytes(size)

    def write_loop(self, number):
        rng = random.Random(f"{self.seed} writer {number}")
        turn = 0
        while not self.stop.is_set():
            key, size = f"w{number}/{turn:06}", rng.choice(SIZES)
            turn += 1
            body = self.body(key, size)
            try:
                self.client(rng).put_object(Bucket=BUCKET, Key=key, Body=body)
            except Exception as error:
                self.count(f"put {type(error).__name__}")
                self.stop.wait(0.05)
                continue
            with self.lock:
                self.acknowledged[key] = (size, hashlib.sha256(body).hexdigest())
            self.count("put")

    def write_all(self, count, deadline_s, sizes):
        """Each object until it is acknowledged: which there are does not depend on how busy the machine is."""
        numbers, ends = iter(range(count)), time.monotonic() + deadline_s

        def write(number):
            rng = random.Random(f"{self.seed} all {number}")
            while True:
                with self.lock:
                    turn = next(numbers, None)
                if turn is None:
                    return
                key, size = f"all/{turn:06}", sizes[turn % len(sizes)]
                body = self.body(key, size)
                while True:
                    try:
                        self.client(rng).put_object(Bucket=BUCKET, Key=key, Body=body)
                        break
                    except Exception as error:
                        self.count(f"put {type(error).__name__}")
                        if time.monotonic() > ends:
                            return
                        time.sleep(0.1)
                with self.lock:
                    self.acknowledged[key] = (size, hashlib.sha256(body).hexdigest())

        threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"objects": len(self.acknowledged), "bytes": sum(size for size, _ in self.acknowledged.values())}

    def read(self, client, key):
        """True when the bytes are right; raises what the client raises."""
        size, sha = self.acknowledged[key]
        got = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        if len(got) != size or hashlib.sha256(got).hexdigest() != sha:
            self.wrong.append(f"{key}: {len(got)} bytes read, {size} written, digests differ")
            return False
        return True

    def read_loop(self, number):
        rng = random.Random(f"{self.seed} reader {number}")
        while not self.stop.is_set():
            with self.lock:
                keys = list(self.acknowledged)
            if not keys:
                self.stop.wait(0.05)
                continue
            try:
                self.read(self.client(rng), rng.choice(keys))
                self.count("get")
            except Exception as error:
                self.count(f"get {type(error).__name__}")
                self.stop.wait(0.05)

    def mark(self):
        with self.lock:
            counts, self.counts = self.counts, {}
            return {"counts": counts, "acknowledged": len(self.acknowledged), "wrong": self.wrong}

    def verify(self, deadline_s):
        """Every acknowledged object, from the endpoints in turn; a failing read is tried again until the deadline."""
        self.stop.set()
        for thread in self.threads:
            thread.join()
        ends = time.monotonic() + deadline_s
        unread, rng = {}, random.Random(self.seed)
        for key in list(self.acknowledged):
            while True:
                try:
                    self.read(self.client(rng), key)
                    unread.pop(key, None)
                    break
                except Exception as error:
                    unread[key] = f"{type(error).__name__}: {error}"
                    if time.monotonic() > ends:
                        break
                    time.sleep(0.2)
        return {"verified": len(self.acknowledged) - len(unread), "unread": unread, "wrong": self.wrong}

    def start(self):
        loops = [(self.write_loop, n) for n in range(WRITERS)] + [(self.read_loop, n) for n in range(READERS)]
        self.threads = [threading.Thread(target=loop, args=(n,), daemon=True) for loop, n in loops]
        for thread in self.threads:
            thread.start()


def main():
    seed = os.environ.get("CAIRN_SEED", "1")
    work = Workload(seed)
    boto3_client().create_bucket(Bucket=BUCKET)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "endpoints":
            with work.lock:
                work.endpoints = words
            answer = {"endpoints": len(words)}
        elif command == "start":
            work.start()
            answer = {"seed": seed}
        elif command == "write":
            answer = work.write_all(int(words[0]), float(words[1]), [int(word) for word in words[2:]])
        elif command == "mark":
            answer = work.mark()
        elif command == "verify":
            answer = work.verify(float(words[0]))
        elif command == "quit":
            return
        else:
            answer = {"error": f"unknown command {command}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
