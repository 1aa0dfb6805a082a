"""Every client of the table puts and reads back every size, byte for byte, in its own way and with its own defaults."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from common import ACCESS_KEY, ENDPOINT, MIB, REGION, SECRET_KEY, Table, boto3_client, digest, make_file, run, sizes

HOST = ENDPOINT.split("://", 1)[1]


def same(a: Path, b: Path):
    if a.stat().st_size != b.stat().st_size or digest(a) != digest(b):
        raise AssertionError(f"{b} ({b.stat().st_size} bytes) differs from {a} ({a.stat().st_size} bytes)")


class Awscli:
    def put(self, file, bucket, key):
        run("aws", "--endpoint-url", ENDPOINT, "s3", "cp", "--no-progress", file, f"s3://{bucket}/{key}")

    def get(self, bucket, key, file):
        run("aws", "--endpoint-url", ENDPOINT, "s3", "cp", "--no-progress", f"s3://{bucket}/{key}", file)


class Boto3:
    def put(self, file, bucket, key):
        boto3_client().upload_file(str(file), bucket, key)

    def get(self, bucket, key, file):
        boto3_client().download_file(bucket, key, str(file))


class Rclone:
    def remote(self, bucket, key):
        return f':s3,provider=Other,env_auth,endpoint="{ENDPOINT}":{bucket}/{key}'

    def put(self, file, bucket, key):
        run("rclone", "--config", "/dev/null", "copyto", file, self.remote(bucket, key))

    def get(self, bucket, key, file):
        run("rclone", "--config", "/dev/null", "copyto", self.remote(bucket, key), file)


class S5cmd:
    def put(self, file, bucket, key):
        run("s5cmd", "--endpoint-url", ENDPOINT, "cp", file, f"s3://{bucket}/{key}")

    def get(self, bucket, key, file):
        run("s5cmd", "--endpoint-url", ENDPOINT, "cp", f"s3://{bucket}/{key}", file)


class S3cmd:
    def options(self):
        return [
            f"--host={HOST}", f"--host-bucket={HOST}", "--no-ssl", "--no-progress", "--config=/dev/null",
            f"--access_key={ACCESS_KEY}", f"--secret_key={SECRET_KEY}", f"--region={REGION}",
        ]

    def put(self, file, bucket, key):
        run("s3cmd", *self.options(), "put", file, f"s3://{bucket}/{key}")

    def get(self, bucket, key, file):
        run("s3cmd", *self.options(), "get", "--force", f"s3://{bucket}/{key}", file)


class Pyarrow:
    def filesystem(self):
        from pyarrow import fs

        return fs.S3FileSystem(
            access_key=ACCESS_KEY, secret_key=SECRET_KEY, region=REGION, scheme=ENDPOINT.split(":")[0], endpoint_override=HOST
        )

    def copy(self, source, target):
        while data := source.read(8 * MIB):
            target.write(data)

    def put(self, file, bucket, key):
        with open(file, "rb") as source, self.filesystem().open_output_stream(f"{bucket}/{key}") as target:
            self.copy(source, target)

    def get(self, bucket, key, file):
        with self.filesystem().open_input_stream(f"{bucket}/{key}") as source, open(file, "wb") as target:
            self.copy(source, target)


def restic_round_trip(work: Path, files):
    """All sizes in one backup, restored and compared; restic's own check reads every pack back."""
    env = {"RESTIC_PASSWORD": "cairn", "RESTIC_REPOSITORY": f"s3:{ENDPOINT}/restic/repo", "RESTIC_CACHE_DIR": str(work / "cache")}
    source, target = work / "restic-in", work / "restic-out"
    source.mkdir()
    for name, file in files:
        os.link(file, source / name)
    run("restic", "init", env=env)
    run("restic", "backup", "--quiet", ".", env=env, cwd=source)
    run("restic", "check", "--read-data", env=env)
    run("restic", "restore", "latest", "--target", target, env=env)
    for name, file in files:
        same(file, target / name)
    shutil.rmtree(target)


def round_trip(client, bucket, name, file, work):
    client.put(file, bucket, f"dir one/{name}")
    back = work / "back"
    client.get(bucket, f"dir one/{name}", back)
    same(file, back)
    back.unlink()
    boto3_client().delete_object(Bucket=bucket, Key=f"dir one/{name}")


def main():
    table = Table()
    with tempfile.TemporaryDirectory(prefix="cairn-clients-") as folder:
        work = Path(folder)
        files = []
        for name, size in sizes():
            make_file(work / name, size)
            files.append((name, work / name))
        if not os.environ.get("CAIRN_CLIENTS_LARGE"):
            table.skip("1GiB of every client", "CAIRN_CLIENTS_LARGE is not set")
        s3 = boto3_client()
        for client in (Awscli(), Boto3(), Rclone(), S5cmd(), S3cmd(), Pyarrow()):
            name = type(client).__name__.lower()
            bucket = f"rt-{name}"
            s3.create_bucket(Bucket=bucket)
            for size, file in files:
                table.check(f"{name} {size}", round_trip, client, bucket, size, file, work)
            table.check(f"{name} leaves its bucket empty", lambda: s3.delete_bucket(Bucket=bucket))
        if shutil.which("restic"):
            s3.create_bucket(Bucket="restic")
            table.check("restic, all sizes", restic_round_trip, work, files)
        else:
            table.skip("restic", "restic is not installed (apt-get install restic)")
    table.finish()


if __name__ == "__main__":
    sys.exit(main())
