"""How clients speak on the wire: what they send, wait for and leave out, where a wrong answer costs them a timeout."""

import io
import sys
import tempfile
import time
from pathlib import Path

from botocore.exceptions import ClientError

from common import ENDPOINT, Table, boto3_client, run

BUCKET = "wire"
# botocore waits 60 s for an answer that does not come.
PATIENCE_S = 30


def in_time(function):
    start = time.monotonic()
    function()
    took = time.monotonic() - start
    if took > PATIENCE_S:
        raise AssertionError(f"took {took:.0f} s: a client waited for something that did not come")


def expectations_on_one_connection():
    """Each request waits for "100 Continue", empty or not, wanted or refused, and all use the same connection."""
    s3 = boto3_client(max_pool_connections=1, retries={"max_attempts": 0})

    def put(bucket, key, body):
        # Only what can be read like a file is sent with an expectation.
        s3.put_object(Bucket=bucket, Key=key, Body=io.BytesIO(body))

    def work():
        for turn in range(20):
            put(BUCKET, f"empty {turn}", b"")
            put(BUCKET, f"full {turn}", b"x" * 1000)
            for body in (b"", b"y" * 100_000):
                try:
                    put("wire-that-is-not-there", "k", body)
                except ClientError as error:
                    if error.response["Error"]["Code"] != "NoSuchBucket":
                        raise
                else:
                    raise AssertionError("an object was put into a bucket that is not there")
        if s3.get_object(Bucket=BUCKET, Key="full 19")["Body"].read() != b"x" * 1000:
            raise AssertionError("other bytes came back")

    in_time(work)


def recursive_copy_of_empty_and_tiny_files():
    with tempfile.TemporaryDirectory(prefix="cairn-wire-") as folder:
        for number in range(12):
            (Path(folder) / f"file {number}").write_bytes(b"" if number % 2 else b"tiny")
        in_time(lambda: run("aws", "--endpoint-url", ENDPOINT, "s3", "cp", "--recursive", folder, f"s3://{BUCKET}/many/"))
    listed = boto3_client().list_objects_v2(Bucket=BUCKET, Prefix="many/")["Contents"]
    sizes = sorted(entry["Size"] for entry in listed)
    if sizes != [0] * 6 + [4] * 6:
        raise AssertionError(f"sizes {sizes}")


def main():
    boto3_client().create_bucket(Bucket=BUCKET)
    table = Table()
    table.check("boto3: empty and full objects on one connection", expectations_on_one_connection)
    table.check("awscli: a folder of tiny and empty files", recursive_copy_of_empty_and_tiny_files)
    table.finish()


if __name__ == "__main__":
    sys.exit(main())
