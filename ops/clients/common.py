"""Shared by the client checks: test files, commands with deadlines, and a result table."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ENDPOINT = os.environ.get("CAIRN_ENDPOINT", "http://127.0.0.1:9000")
ACCESS_KEY = os.environ["AWS_ACCESS_KEY_ID"]
SECRET_KEY = os.environ["AWS_SECRET_ACCESS_KEY"]
REGION = os.environ.get("AWS_REGION", "us-east-1")

MIB = 1024 * 1024
COMMAND_DEADLINE_S = 900


def sizes():
    """Sizes to round-trip: the 1 GiB one only when CAIRN_CLIENTS_LARGE is set, and its absence is printed."""
    some = [("0B", 0), ("1B", 1), ("1MiB", MIB), ("64MiB", 64 * MIB)]
    if os.environ.get("CAIRN_CLIENTS_LARGE"):
        some.append(("1GiB", 1024 * MIB))
    return some


def make_file(path: Path, size: int):
    """Bytes that neither compress nor repeat at any block size, the same for the same size."""
    block = hashlib.shake_256(f"cairn {size}".encode()).digest(4 * MIB)
    with open(path, "wb") as out:
        written = 0
        turn = 0
        while written < size:
            piece = turn.to_bytes(8, "big") + block[8:]
            piece = piece[: size - written]
            out.write(piece)
            written += len(piece)
            turn += 1


def digest(path: Path) -> str:
    h = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as f:
        while data := f.read(4 * MIB):
            h.update(data)
    return h.hexdigest()


def run(*command, env=None, cwd=None):
    """Runs a command to its end; a failure shows what it printed."""
    done = subprocess.run(
        [str(c) for c in command],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=COMMAND_DEADLINE_S,
    )
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} exited {done.returncode}:\n{text[-3000:]}")
    return text


def boto3_client(endpoint=ENDPOINT, **config):
    return boto3_client_of("s3", ACCESS_KEY, SECRET_KEY, endpoint=endpoint, **config)


def boto3_client_of(service, access_key, secret_key, token=None, endpoint=ENDPOINT, **config):
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        region_name=REGION,
        config=Config(**config),
    )


class Table:
    """Runs checks one by one, prints each as it ends, and remembers what failed and what was skipped."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def check(self, name, function, *args):
        start = time.monotonic()
        try:
            function(*args)
        except Exception as error:  # a check may fail in any way a client can
            self.failed.append(name)
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        else:
            self.passed += 1
            print(f"ok    {name} ({time.monotonic() - start:.1f} s)", flush=True)

    def skip(self, name, why):
        self.skipped.append(name)
        print(f"SKIP  {name}: {why}", flush=True)

    def finish(self):
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped", flush=True)
        sys.exit(1 if self.failed else 0)
