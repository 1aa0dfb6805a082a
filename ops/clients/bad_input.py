"""Malformed, forged and truncated requests: each gets the right S3 error, stores nothing and leaves no fragment behind."""

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common import ACCESS_KEY, ENDPOINT, REGION, SECRET_KEY, Table, boto3_client

ADMIN = os.environ.get("CAIRN_ADMIN")
BUCKET = "bad-input"
CLEANUP_DEADLINE_S = 60


def fragments():
    """Fragments on all disks, as the cluster itself counts them."""
    with urllib.request.urlopen(f"{ADMIN}/v1/status", timeout=20) as answer:
        status = json.load(answer)
    return sum(disk["fragments"] or 0 for node in status["nodes"] for disk in node["disks"])


class Signer(SigV4Auth):
    """Signs the payload's digest as the headers claim it, true or not."""

    def payload(self, request):
        return request.headers["X-Amz-Content-SHA256"]

    def _modify_request_before_signing(self, request):
        claimed = request.headers["X-Amz-Content-SHA256"]
        super()._modify_request_before_signing(request)
        del request.headers["X-Amz-Content-SHA256"]
        request.headers["X-Amz-Content-SHA256"] = claimed


def signed(method, path, body=b"", headers=None, secret=SECRET_KEY, content_sha256=None):
    """A request as a client signs it, with whatever is wrong about it signed in."""
    sha = content_sha256 or hashlib.sha256(body).hexdigest()
    request = AWSRequest(method, ENDPOINT + path, data=body, headers={"X-Amz-Content-SHA256": sha, **(headers or {})})
    Signer(Credentials(ACCESS_KEY, secret), "s3", REGION).add_auth(request)
    return request


def send(method, path, body=b"", headers=None, length=None):
    """Sends exactly this; returns status, S3 error code, headers. A connection closed without an answer is status 0."""
    url = urlsplit(ENDPOINT)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            if name.lower() not in ("content-length", "host"):
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body) if length is None else length))
        connection.endheaders()
        connection.send(body)
        if length is not None and length > len(body):
            connection.sock.shutdown(socket.SHUT_WR)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (http.client.HTTPException, ConnectionError, socket.timeout):
        return 0, None, ""
    finally:
        connection.close()
    code = re.search(r"<Code>(\w+)</Code>", text)
    return answer.status, code.group(1) if code else None, text


def expect(got, *wanted):
    if (got[0], got[1]) not in wanted:
        raise AssertionError(f"got {got[0]} {got[1]}, wanted one of {wanted}: {got[2][:300]}")


def put(body=b"hello", headers=None, key="k", length=None, **sign):
    request = signed("PUT", f"/{BUCKET}/{key}", body, headers, **sign)
    return send("PUT", f"/{BUCKET}/{key}", body, dict(request.headers), length)


def b64(data):
    return base64.b64encode(data).decode()


def wrong_signature():
    expect(put(secret="not the secret"), (403, "SignatureDoesNotMatch"))


def unknown_access_key():
    request = AWSRequest("GET", f"{ENDPOINT}/{BUCKET}", headers={"X-Amz-Content-SHA256": hashlib.sha256(b"").hexdigest()})
    Signer(Credentials("NOBODY", "x"), "s3", REGION).add_auth(request)
    expect(send("GET", f"/{BUCKET}", headers=dict(request.headers)), (403, "InvalidAccessKeyId"))


def unsigned():
    expect(send("GET", f"/{BUCKET}/k"), (403, "AccessDenied"))


def expired_presign():
    request = AWSRequest("PUT", f"{ENDPOINT}/{BUCKET}/k")
    S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION, expires=1).add_auth(request)
    time.sleep(2.1)  # the one thing waited for here is time itself: the URL must expire
    url = urlsplit(request.url)
    expect(send("PUT", f"{url.path}?{url.query}", b"hello"), (403, "AccessDenied"), (403, "ExpiredToken"))


def wrong_content_md5():
    expect(put(headers={"Content-MD5": b64(hashlib.md5(b"other").digest())}), (400, "BadDigest"))


def malformed_content_md5():
    expect(put(headers={"Content-MD5": "not base64!"}), (400, "InvalidDigest"))


def wrong_checksum(name, raw):
    expect(put(headers={f"x-amz-checksum-{name}": b64(raw)}), (400, "BadDigest"))


def malformed_checksum():
    expect(put(headers={"x-amz-checksum-crc32": "AA=="}), (400, "InvalidRequest"), (400, "InvalidDigest"))


def wrong_content_sha256():
    expect(put(content_sha256=hashlib.sha256(b"other").hexdigest()), (400, "XAmzContentSHA256Mismatch"))


def wrong_trailer():
    body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {
        "x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": "5", "Content-Encoding": "aws-chunked",
    }
    expect(put(body, headers, content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER"), (400, "BadDigest"))


def garbage_chunks():
    headers = {"x-amz-decoded-content-length": "5", "Content-Encoding": "aws-chunked", "x-amz-trailer": "x-amz-checksum-crc32"}
    got = put(b"zzzz\r\nhello\r\n0\r\n\r\n", headers, content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    if got[0] == 200:
        raise AssertionError("accepted")


def short_body(size):
    def check():
        sha = "UNSIGNED-PAYLOAD"
        got = put(b"x" * size, length=size + 1000, content_sha256=sha)
        if got[0] not in (0, 400):
            raise AssertionError(f"a body {1000} bytes short got {got[0]} {got[1]}")

    return check


def long_key():
    expect(put(key="k" * 1025), (400, "KeyTooLongError"))


def big_metadata():
    expect(put(headers={"x-amz-meta-big": "v" * 3000}), (400, "MetadataTooLarge"))


def giant_header():
    got = put(headers={"x-amz-meta-giant": "v" * 200_000})
    if got[0] not in (0, 400, 431):
        raise AssertionError(f"got {got[0]} {got[1]}")


def too_large():
    expect(put(b"", length=6 * 1024**4, content_sha256="UNSIGNED-PAYLOAD"), (400, "EntityTooLarge"))


def unknown_bucket():
    request = signed("PUT", "/no-such-bucket-here/k", b"x")
    expect(send("PUT", "/no-such-bucket-here/k", b"x", dict(request.headers)), (404, "NoSuchBucket"))


def bad_bucket_name():
    request = signed("PUT", "/Bad_Bucket", b"")
    expect(send("PUT", "/Bad_Bucket", b"", dict(request.headers)), (400, "InvalidBucketName"))


def invalid_range():
    s3 = boto3_client()
    s3.put_object(Bucket=BUCKET, Key="ten", Body=b"0123456789")
    request = signed("GET", f"/{BUCKET}/ten", headers={"Range": "bytes=10-20"})
    expect(send("GET", f"/{BUCKET}/ten", headers=dict(request.headers)), (416, "InvalidRange"))
    s3.delete_object(Bucket=BUCKET, Key="ten")


def malformed_xml():
    body = b"<Delete><Object><Key>k</Obj"
    request = signed("POST", f"/{BUCKET}?delete=", body, {"Content-MD5": b64(hashlib.md5(body).digest())})
    expect(send("POST", f"/{BUCKET}?delete=", body, dict(request.headers)), (400, "MalformedXML"))


def delete_without_digest():
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    request = signed("POST", f"/{BUCKET}?delete=", body)
    expect(send("POST", f"/{BUCKET}?delete=", body, dict(request.headers)), (400, "InvalidRequest"), (400, "MissingContentMD5"))


def part_number_out_of_range():
    path = f"/{BUCKET}/k?partNumber=10001&uploadId={'0' * 32}"
    request = signed("PUT", path, b"x")
    expect(send("PUT", path, b"x", dict(request.headers)), (400, "InvalidArgument"))


def unknown_upload():
    path = f"/{BUCKET}/k?partNumber=1&uploadId={'0' * 32}"
    request = signed("PUT", path, b"x")
    expect(send("PUT", path, b"x", dict(request.headers)), (404, "NoSuchUpload"))


def bad_continuation_token():
    request = signed("GET", f"/{BUCKET}?continuation-token=%21%21&list-type=2")
    expect(send("GET", f"/{BUCKET}?continuation-token=%21%21&list-type=2", headers=dict(request.headers)), (400, "InvalidArgument"))


def not_http():
    url = urlsplit(ENDPOINT)
    with socket.create_connection((url.hostname, url.port), timeout=10) as s:
        s.sendall(b"\x16\x03\x01\x02\x00garbage\r\n\r\n" + os.urandom(2000))
        s.settimeout(30)
        while s.recv(4096):
            pass


def tls_to_plain_port():
    url = urlsplit(ENDPOINT)
    context = ssl.create_default_context()
    try:
        with socket.create_connection((url.hostname, url.port), timeout=10) as s, context.wrap_socket(s, server_hostname="x"):
            raise AssertionError("a TLS handshake worked on a plain port")
    except (ssl.SSLError, ConnectionError):
        pass


def stored_nothing():
    listed = boto3_client().list_objects_v2(Bucket=BUCKET).get("Contents", [])
    if listed:
        raise AssertionError(f"stored: {[o['Key'] for o in listed]}")


def leaked_nothing(before):
    """Cleaning up after a refused body goes on behind the answer: wait for it, within bounds."""
    ends = time.monotonic() + CLEANUP_DEADLINE_S
    while (now := fragments()) > before:
        if time.monotonic() > ends:
            raise AssertionError(f"{now} fragments on disk, {before} before")
        time.sleep(0.25)


def main():
    table = Table()
    boto3_client().create_bucket(Bucket=BUCKET)
    before = fragments() if ADMIN else None
    simple = [
        wrong_signature, unknown_access_key, unsigned, expired_presign, wrong_content_md5, malformed_content_md5, malformed_checksum,
        wrong_content_sha256, wrong_trailer, garbage_chunks, long_key, big_metadata, giant_header, too_large, unknown_bucket,
        bad_bucket_name, malformed_xml, delete_without_digest, part_number_out_of_range, unknown_upload, bad_continuation_token,
        not_http, tls_to_plain_port,
    ]
    for check in simple:
        table.check(check.__name__.replace("_", " "), check)
    for name, raw in [("crc32", b"1" * 4), ("crc32c", b"1" * 4), ("crc64nvme", b"1" * 8), ("sha1", b"1" * 20), ("sha256", b"1" * 32)]:
        table.check(f"wrong {name}", wrong_checksum, name, raw)
    for size in (10, 200_000, 9_000_000):
        table.check(f"body short after {size} bytes", short_body(size))
    table.check("nothing was stored", stored_nothing)
    if ADMIN:
        table.check("no fragment was left on disk", leaked_nothing, before)
    else:
        table.skip("no fragment was left on disk", "CAIRN_ADMIN is not set")
    table.check("invalid range", invalid_range)
    table.finish()


if __name__ == "__main__":
    sys.exit(main())
