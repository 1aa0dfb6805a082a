"""What S3 users rely on, checked through boto3: listings, conditions, ranges, multipart, checksums, presigned URLs, versions."""

import hashlib
import io
import json
import os
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

from botocore.exceptions import ClientError

from common import MIB, Table, boto3_client, boto3_client_of

BUCKET = "semantics"
ADMIN = os.environ.get("CAIRN_ADMIN")
s3 = boto3_client()


def error_code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


def buckets():
    s3.create_bucket(Bucket="sem-other")
    names = [b["Name"] for b in s3.list_buckets()["Buckets"]]
    equal("sem-other" in names and names == sorted(names), True)
    s3.head_bucket(Bucket="sem-other")
    equal(s3.get_bucket_location(Bucket="sem-other").get("LocationConstraint"), None)
    s3.put_object(Bucket="sem-other", Key="k", Body=b"x")
    equal(error_code(s3.delete_bucket, Bucket="sem-other"), "BucketNotEmpty")
    s3.delete_object(Bucket="sem-other", Key="k")
    s3.delete_bucket(Bucket="sem-other")
    equal(error_code(s3.head_bucket, Bucket="sem-other"), "404")
    equal(error_code(s3.list_objects_v2, Bucket="sem-other"), "NoSuchBucket")


def attributes():
    given = dict(
        ContentType="text/x-cairn", ContentEncoding="identity", ContentLanguage="en", ContentDisposition='attachment; filename="a"',
        CacheControl="max-age=3", Metadata={"colour": "grey", "weight": "heavy"},
    )
    s3.put_object(Bucket=BUCKET, Key="attributes", Body=b"abc", **given)
    for answer in (s3.head_object(Bucket=BUCKET, Key="attributes"), s3.get_object(Bucket=BUCKET, Key="attributes")):
        for name, value in given.items():
            equal(answer[name], value)
        equal(answer["ETag"], f'"{hashlib.md5(b"abc").hexdigest()}"')
        equal(answer["ContentLength"], 3)
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="absent"), "NoSuchKey")


def ranges():
    body = bytes(range(256)) * 40_000  # several stripes
    s3.put_object(Bucket=BUCKET, Key="ranges", Body=body)
    for header, first, last in [
        ("bytes=0-0", 0, 0), ("bytes=5-99", 5, 99), ("bytes=-300", len(body) - 300, len(body) - 1),
        (f"bytes={len(body) - 5}-", len(body) - 5, len(body) - 1), ("bytes=1048570-1048590", 1048570, 1048590),
        ("bytes=4194300-8388700", 4194300, 8388700), ("bytes=3-999999999999", 3, len(body) - 1),
        ("bytes=-999999999999", 0, len(body) - 1),
    ]:
        answer = s3.get_object(Bucket=BUCKET, Key="ranges", Range=header)
        equal(answer["ContentRange"], f"bytes {first}-{last}/{len(body)}")
        equal(answer["Body"].read() == body[first : last + 1], True)
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="ranges", Range=f"bytes={len(body)}-"), "InvalidRange")


def conditions():
    etag = s3.put_object(Bucket=BUCKET, Key="cond", Body=b"one")["ETag"]
    head = s3.head_object(Bucket=BUCKET, Key="cond")
    when = head["LastModified"]
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="cond", IfMatch='"0"'), "PreconditionFailed")
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="cond", IfNoneMatch=etag), "304")
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="cond", IfModifiedSince=when), "304")
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="cond", IfUnmodifiedSince="1990-01-01"), "PreconditionFailed")
    s3.get_object(Bucket=BUCKET, Key="cond", IfMatch=etag, IfUnmodifiedSince="1990-01-01")
    equal(error_code(s3.put_object, Bucket=BUCKET, Key="cond", Body=b"2", IfNoneMatch="*"), "PreconditionFailed")
    equal(error_code(s3.put_object, Bucket=BUCKET, Key="cond", Body=b"2", IfMatch='"0"'), "PreconditionFailed")
    s3.put_object(Bucket=BUCKET, Key="cond", Body=b"two", IfMatch=etag)
    s3.put_object(Bucket=BUCKET, Key="cond-new", Body=b"x", IfNoneMatch="*")
    equal(s3.get_object(Bucket=BUCKET, Key="cond")["Body"].read(), b"two")


def one_writer_wins():
    """CON-2 at the conditional write: of many creators of one key exactly one succeeds, and its bytes are read."""
    def create(n):
        return error_code(s3.put_object, Bucket=BUCKET, Key="race", Body=f"writer {n}".encode(), IfNoneMatch="*") or n

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(create, range(32)))
    winners = [r for r in results if isinstance(r, int)]
    equal(len(winners), 1)
    equal({r for r in results if not isinstance(r, int)} <= {"PreconditionFailed", "ConditionalRequestConflict"}, True)
    equal(s3.get_object(Bucket=BUCKET, Key="race")["Body"].read(), f"writer {winners[0]}".encode())


def listings():
    bucket = "sem-list"
    s3.create_bucket(Bucket=bucket)
    keys = sorted(
        [f"a/{n:03}" for n in range(30)] + [f"b/{n}/x" for n in range(12)] + ["a", "a b", "b", "c/é", "c/+%&", "z\u4e00", "~"],
        key=lambda k: k.encode(),
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: s3.put_object(Bucket=bucket, Key=k, Body=k.encode()), keys))

    def walk(**query):
        found, prefixes = [], []
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 7}, **query):
            found += [o["Key"] for o in page.get("Contents", [])]
            prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        return found, prefixes

    equal(walk(), (keys, []))
    equal(walk(Delimiter="/"), ([k for k in keys if "/" not in k], ["a/", "b/", "c/"]))
    equal(walk(Prefix="b/", Delimiter="/"), ([], sorted(f"b/{n}/" for n in range(12))))
    equal(walk(Prefix="a"), ([k for k in keys if k.startswith("a")], []))
    equal(walk(StartAfter="a/010"), ([k for k in keys if k.encode() > b"a/010"], []))
    v1 = []
    for page in s3.get_paginator("list_objects").paginate(Bucket=bucket, PaginationConfig={"PageSize": 5}):
        v1 += [o["Key"] for o in page.get("Contents", [])]
    equal(v1, keys)
    one = s3.list_objects_v2(Bucket=bucket, MaxKeys=1, FetchOwner=True)
    equal((one["KeyCount"], one["IsTruncated"], "Owner" in one["Contents"][0]), (1, True, True))
    equal(s3.list_objects_v2(Bucket=bucket, MaxKeys=0).get("Contents"), None)
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys] + [{"Key": "never there"}]})
    equal((len(answer["Deleted"]), answer.get("Errors")), (len(keys) + 1, None))
    equal(walk(), ([], []))
    s3.delete_bucket(Bucket=bucket)


def multipart():
    key = "multi part"
    bodies = {n: bytes([n]) * (5 * MIB + n) for n in (1, 2, 3, 7)}
    bodies[9] = b"the end"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, Metadata={"m": "p"})["UploadId"]
    with ThreadPoolExecutor(4) as pool:  # out of order and in parallel
        def send(n):
            return n, s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=n, Body=bodies[n])["ETag"]

        etags = dict(pool.map(send, [9, 3, 7, 1, 2]))
    etags[2] = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=2, Body=bodies[2])["ETag"]  # a retry
    listed = s3.list_parts(Bucket=BUCKET, Key=key, UploadId=upload, MaxParts=3)
    equal(([p["PartNumber"] for p in listed["Parts"]], listed["IsTruncated"]), ([1, 2, 3], True))
    uploads = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    equal([(u["Key"], u["UploadId"]) for u in uploads], [(key, upload)])
    equal(error_code(s3.head_object, Bucket=BUCKET, Key=key), "404")

    def complete(numbers, wrong=None):
        parts = [{"PartNumber": n, "ETag": wrong or etags[n]} for n in numbers]
        return dict(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})

    equal(error_code(s3.complete_multipart_upload, **complete([2, 1])), "InvalidPartOrder")
    equal(error_code(s3.complete_multipart_upload, **complete([1], '"00"')), "InvalidPart")
    numbers = [1, 2, 3, 7, 9]
    done = s3.complete_multipart_upload(**complete(numbers))
    md5s = b"".join(hashlib.md5(bodies[n]).digest() for n in numbers)
    equal(done["ETag"], f'"{hashlib.md5(md5s).hexdigest()}-{len(numbers)}"')
    whole = b"".join(bodies[n] for n in numbers)
    got = s3.get_object(Bucket=BUCKET, Key=key)
    equal((got["Metadata"], got["Body"].read() == whole), ({"m": "p"}, True))
    part = s3.get_object(Bucket=BUCKET, Key=key, PartNumber=5)
    equal((part["Body"].read(), part["PartsCount"]), (b"the end", 5))
    at = len(bodies[1]) - 10
    equal(s3.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={at}-{at + 19}")["Body"].read(), whole[at : at + 20])
    equal(s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads"), None)
    small = s3.create_multipart_upload(Bucket=BUCKET, Key="small")["UploadId"]
    parts = []
    for n in (1, 2):
        answer = s3.upload_part(Bucket=BUCKET, Key="small", UploadId=small, PartNumber=n, Body=b"tiny")
        parts.append({"PartNumber": n, "ETag": answer["ETag"]})
    equal(
        error_code(s3.complete_multipart_upload, Bucket=BUCKET, Key="small", UploadId=small, MultipartUpload={"Parts": parts}),
        "EntityTooSmall",
    )
    s3.abort_multipart_upload(Bucket=BUCKET, Key="small", UploadId=small)
    equal(error_code(s3.list_parts, Bucket=BUCKET, Key="small", UploadId=small), "NoSuchUpload")


def checksums():
    import base64

    body = b"checked" * 1000
    for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        try:
            put = s3.put_object(Bucket=BUCKET, Key=f"sum-{name}", Body=body, ChecksumAlgorithm=name)
        except Exception as error:
            if "crt" in str(error).lower():  # botocore needs a C extension for two of them; sent as a header of our own below
                continue
            raise
        field = f"Checksum{name}"
        got = s3.get_object(Bucket=BUCKET, Key=f"sum-{name}", ChecksumMode="ENABLED")
        equal(got[field], put[field])
        equal(got["Body"].read(), body)
    sha = base64.b64encode(hashlib.sha256(body).digest()).decode()
    equal(s3.head_object(Bucket=BUCKET, Key="sum-SHA256", ChecksumMode="ENABLED")["ChecksumSHA256"], sha)
    s3.put_object(Bucket=BUCKET, Key="sum-nvme", Body=body, ChecksumCRC64NVME=crc64nvme(body))
    equal(s3.head_object(Bucket=BUCKET, Key="sum-nvme", ChecksumMode="ENABLED")["ChecksumCRC64NVME"], crc64nvme(body))


def crc64nvme(data):
    """CRC-64/NVME bit by bit: an implementation independent of the server's."""
    import base64

    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return base64.b64encode((crc ^ 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")).decode()


def presigned():
    signer = boto3_client(signature_version="s3v4")
    url = signer.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "pre signed"}, ExpiresIn=60)
    urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT"), timeout=20).read()
    url = signer.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "pre signed"}, ExpiresIn=60)
    with urllib.request.urlopen(url, timeout=20) as answer:
        equal(answer.read(), b"by url")
    try:
        urllib.request.urlopen(url.replace("pre%20signed", "conditions"), timeout=20)
        raise AssertionError("a presigned URL opened another key")
    except urllib.error.HTTPError as error:
        equal(error.code, 403)


def copies():
    s3.put_object(Bucket=BUCKET, Key="copy source", Body=b"c" * 300_000, Metadata={"a": "b"})
    source = {"Bucket": BUCKET, "Key": "copy source"}
    s3.copy_object(Bucket=BUCKET, Key="copied", CopySource=source)
    got = s3.get_object(Bucket=BUCKET, Key="copied")
    equal((got["Metadata"], got["Body"].read()), ({"a": "b"}, b"c" * 300_000))
    s3.copy_object(Bucket=BUCKET, Key="copied", CopySource=source, MetadataDirective="REPLACE", Metadata={"x": "y"})
    s3.delete_object(Bucket=BUCKET, Key="copy source")
    got = s3.get_object(Bucket=BUCKET, Key="copied")
    equal((got["Metadata"], got["Body"].read()), ({"x": "y"}, b"c" * 300_000))


def encryption():
    body = bytes(range(256)) * 20_000
    key, other = b"k" * 32, b"o" * 32
    put = s3.put_object(Bucket=BUCKET, Key="sse-s3", Body=body, ServerSideEncryption="AES256")
    equal((put["ServerSideEncryption"], put["ETag"]), ("AES256", f'"{hashlib.md5(body).hexdigest()}"'))
    put = s3.put_object(Bucket=BUCKET, Key="sse-kms", Body=body, ServerSideEncryption="aws:kms", BucketKeyEnabled=True)
    equal((put["ServerSideEncryption"], put["SSEKMSKeyId"], put["BucketKeyEnabled"]), ("aws:kms", "cairn", True))
    customer = dict(SSECustomerAlgorithm="AES256", SSECustomerKey=key)
    s3.put_object(Bucket=BUCKET, Key="sse-c", Body=body, **customer)
    for name, extra in (("sse-s3", {}), ("sse-kms", {}), ("sse-c", customer)):
        equal(s3.get_object(Bucket=BUCKET, Key=name, **extra)["Body"].read() == body, True)
        ranged = s3.get_object(Bucket=BUCKET, Key=name, Range="bytes=65530-200000", **extra)
        equal(ranged["Body"].read() == body[65530:200001], True)
        equal(s3.head_object(Bucket=BUCKET, Key=name, **extra)["ContentLength"], len(body))
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="sse-c"), "InvalidRequest")
    equal(error_code(s3.get_object, Bucket=BUCKET, Key="sse-c", SSECustomerAlgorithm="AES256", SSECustomerKey=other), "AccessDenied")
    source = {"Bucket": BUCKET, "Key": "sse-c"}
    s3.copy_object(
        Bucket=BUCKET, Key="sse-copy", CopySource=source, CopySourceSSECustomerAlgorithm="AES256", CopySourceSSECustomerKey=key,
        ServerSideEncryption="AES256",
    )
    equal(s3.get_object(Bucket=BUCKET, Key="sse-copy")["Body"].read() == body, True)
    # In parts, as boto3 uploads what is large.
    large = body * 4
    s3.upload_fileobj(io.BytesIO(large), BUCKET, "sse-large", ExtraArgs=customer)
    equal(s3.get_object(Bucket=BUCKET, Key="sse-large", **customer)["Body"].read() == large, True)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    equal(s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"], [rule])
    equal(s3.put_object(Bucket=BUCKET, Key="default", Body=b"x")["ServerSideEncryption"], "AES256")
    s3.delete_bucket_encryption(Bucket=BUCKET)


def versions():
    bucket = "sem-versions"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    equal(s3.get_bucket_versioning(Bucket=bucket)["Status"], "Enabled")
    ids = [s3.put_object(Bucket=bucket, Key="k", Body=f"v{n}".encode())["VersionId"] for n in range(3)]
    marker = s3.delete_object(Bucket=bucket, Key="k")
    equal(marker["DeleteMarker"], True)
    equal(error_code(s3.get_object, Bucket=bucket, Key="k"), "NoSuchKey")
    equal(s3.get_object(Bucket=bucket, Key="k", VersionId=ids[1])["Body"].read(), b"v1")
    listed = s3.list_object_versions(Bucket=bucket)
    equal([v["VersionId"] for v in listed["Versions"]], list(reversed(ids)))
    equal([m["IsLatest"] for m in listed["DeleteMarkers"]], [True])
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    equal(s3.get_object(Bucket=bucket, Key="k")["Body"].read(), b"v2")
    for version in ids:
        s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    s3.delete_bucket(Bucket=bucket)


def settings():
    """Settings of buckets: what is put is read back."""
    bucket = "sem-settings"
    s3.create_bucket(Bucket=bucket)
    tags = [{"Key": "team", "Value": "storage"}, {"Key": "cost centre", "Value": "7"}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    equal(s3.get_bucket_tagging(Bucket=bucket)["TagSet"], tags)
    s3.delete_bucket_tagging(Bucket=bucket)
    equal(error_code(s3.get_bucket_tagging, Bucket=bucket), "NoSuchTagSet")
    rules = [{"ID": "a", "AllowedHeaders": ["*"], "AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://*.example.com"], "MaxAgeSeconds": 60}]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    equal(s3.get_bucket_cors(Bucket=bucket)["CORSRules"], rules)
    lifecycle = [
        {"ID": "old", "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "b"}]}}, "Status": "Enabled", "Expiration": {"Days": 30}},
        {"ID": "versions", "Filter": {"Prefix": ""}, "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": lifecycle})
    equal(s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"], lifecycle)
    s3.put_object(Bucket=bucket, Key="logs/a", Body=b"x", Tagging="a=b")
    equal('rule-id="old"' in s3.head_object(Bucket=bucket, Key="logs/a")["Expiration"], True)
    unknown = {"QueueConfigurations": [{"QueueArn": "arn:cairn:sqs::unknown:webhook", "Events": ["s3:ObjectCreated:*"]}]}
    equal(error_code(s3.put_bucket_notification_configuration, Bucket=bucket, NotificationConfiguration=unknown), "InvalidArgument")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    equal("QueueConfigurations" in s3.get_bucket_notification_configuration(Bucket=bucket), False)
    for delete in (s3.delete_bucket_cors, s3.delete_bucket_lifecycle):
        delete(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="logs/a")
    s3.delete_bucket(Bucket=bucket)


def locks():
    """Object lock, as far as it can be undone again."""
    bucket, until = "sem-locks", datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    default = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=default)
    equal(s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"], default)
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"default")["VersionId"]
    equal(s3.get_object_retention(Bucket=bucket, Key="k")["Retention"]["Mode"], "GOVERNANCE")
    lock = dict(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until, ObjectLockLegalHoldStatus="ON")
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"locked", **lock)["VersionId"]
    head = s3.head_object(Bucket=bucket, Key="k")
    equal({name: head[name] for name in lock}, lock)
    for version in (first, second):
        equal(error_code(s3.delete_object, Bucket=bucket, Key="k", VersionId=version), "AccessDenied")
    later = {"Mode": "GOVERNANCE", "RetainUntilDate": until + timedelta(days=1)}
    s3.put_object_retention(Bucket=bucket, Key="k", VersionId=second, Retention=later)
    equal(s3.get_object_retention(Bucket=bucket, Key="k", VersionId=second)["Retention"], later)
    equal(error_code(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}), "InvalidBucketState")
    s3.put_object_legal_hold(Bucket=bucket, Key="k", VersionId=second, LegalHold={"Status": "OFF"})
    for version in (first, second):
        s3.delete_object(Bucket=bucket, Key="k", VersionId=version, BypassGovernanceRetention=True)
    s3.delete_bucket(Bucket=bucket)


def streamed():
    """A body of unknown length, as a pipe gives it."""
    body = b"stream" * 3_000_000
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "streamed")
    equal(s3.get_object(Bucket=BUCKET, Key="streamed")["Body"].read() == body, True)


def empty_at_the_end():
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        if "Contents" in page:
            s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": o["Key"]} for o in page["Contents"]], "Quiet": True})
    s3.delete_bucket(Bucket=BUCKET)


def admin(**order):
    """The admin API takes this from the node's own machine."""
    request = urllib.request.Request(
        f"{ADMIN}/v1/access", json.dumps(order).encode(), {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def temporary_credentials():
    """A user's own rights for a while, and less of them."""
    def statement(*actions):
        return {"Effect": "Allow", "Action": list(actions), "Resource": f"arn:aws:s3:::{BUCKET}/*"}

    def policy(*actions):
        return json.dumps({"Version": "2012-10-17", "Statement": [statement(*actions)]})

    def client(service, given, **config):
        return boto3_client_of(
            service, given["AccessKeyId"], given["SecretAccessKey"], given.get("SessionToken"), **config
        )

    name = f"sts-{time.time_ns()}"
    user_arn = f"arn:aws:iam::000000000000:user/{name}"
    admin(do="create_user", name=name)
    admin(do="attach_to_user", name=name, policy="own", text=policy("s3:GetObject", "s3:PutObject"))
    made = admin(do="create_key", user=name, expires_seconds=None, session_policy=None)
    sts = client("sts", {"AccessKeyId": made["access_key"], "SecretAccessKey": made["secret_key"]})
    equal(sts.get_caller_identity()["Arn"], user_arn)
    asked = dict(RoleArn=user_arn, RoleSessionName="job", DurationSeconds=900, Policy=policy("s3:GetObject"))
    answer = sts.assume_role(**asked)
    equal(answer["AssumedRoleUser"]["Arn"], f"arn:aws:sts::000000000000:assumed-role/{name}/job")
    left = answer["Credentials"]["Expiration"] - datetime.now(timezone.utc)
    equal(timedelta(minutes=14) < left <= timedelta(minutes=15, seconds=30), True)
    s3.put_object(Bucket=BUCKET, Key="temporary", Body=b"x")
    session = client("s3", answer["Credentials"])
    equal(session.get_object(Bucket=BUCKET, Key="temporary")["Body"].read(), b"x")
    equal(error_code(session.put_object, Bucket=BUCKET, Key="temporary", Body=b"y"), "AccessDenied")
    for version in ("s3v4", "s3"):
        signer = client("s3", answer["Credentials"], signature_version=version)
        url = signer.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "temporary"}, ExpiresIn=60)
        equal(urllib.request.urlopen(url).read(), b"x")
    whole = client("s3", sts.get_session_token()["Credentials"])
    whole.put_object(Bucket=BUCKET, Key="temporary", Body=b"y")
    equal(error_code(sts.assume_role, **{**asked, "RoleArn": user_arn + "x"}), "AccessDenied")
    equal(error_code(sts.assume_role, **{**asked, "Policy": "{"}), "MalformedPolicyDocument")
    equal(error_code(client("sts", answer["Credentials"]).assume_role, **asked), "AccessDenied")
    admin(do="delete_key", access_key=made["access_key"])
    admin(do="detach_from_user", name=name, policy="own")
    admin(do="delete_user", name=name)


def main():
    table = Table()
    s3.create_bucket(Bucket=BUCKET)
    checks = [
        buckets, attributes, ranges, conditions, one_writer_wins, listings, multipart, checksums, presigned, copies, encryption,
        versions, settings, locks, streamed,
    ]
    if ADMIN:
        checks.append(temporary_credentials)
    else:
        table.skip("temporary credentials", "CAIRN_ADMIN is not set")
    for check in (*checks, empty_at_the_end):
        table.check(check.__name__.replace("_", " "), check)
    table.finish()


if __name__ == "__main__":
    sys.exit(main())
