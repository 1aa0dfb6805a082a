"""What clients are told: errors and their fields, delete markers, odd keys, browser forms, settings never set, and what is refused."""

import io
import sys
from urllib.parse import urlsplit

import urllib3
from botocore.exceptions import ClientError
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from common import ACCESS_KEY, ENDPOINT, MIB, REGION, SECRET_KEY, Table, boto3_client

BUCKET = "answers"
STRANGER = "000000000000"
s3 = boto3_client(retries={"max_attempts": 0})
http = urllib3.PoolManager(retries=False)


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


def refused(call, **arguments):
    """The error that a call must end in, and the answer's headers."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"], error.response["ResponseMetadata"]
    raise AssertionError(f"{call.__name__} was granted: {arguments}")


def code(call, **arguments):
    return refused(call, **arguments)[0]["Code"]


def odd_keys():
    """Control characters are legal in keys. botocore reads no XML with them, so it asks for them percent-encoded."""
    keys = ["a\x08b", "c\x1fd/e\x07", "f\r\n\tg", "h \U0001f389 <&>\"'"]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    for lister in ("list_objects", "list_objects_v2"):
        listed = getattr(s3, lister)(Bucket=BUCKET)["Contents"]
        equal([entry["Key"] for entry in listed], sorted(keys))
    equal([v["Key"] for v in s3.list_object_versions(Bucket=BUCKET)["Versions"]], sorted(keys))
    folded = s3.list_objects_v2(Bucket=BUCKET, Prefix="c\x1f", Delimiter="/")
    equal([p["Prefix"] for p in folded["CommonPrefixes"]], ["c\x1fd/"])
    for key in keys:
        equal(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read(), key.encode())
        s3.delete_object(Bucket=BUCKET, Key=key)
    equal(s3.list_objects_v2(Bucket=BUCKET)["KeyCount"], 0)


def keys_in_other_spellings():
    """minio-py writes characters beyond the first plane as numeric references, and reads listings by a parser of its own."""
    client = Minio(urlsplit(ENDPOINT).netloc, ACCESS_KEY, SECRET_KEY, secure=False, region=REGION)
    keys = ["\U0001f389 party.txt", "a&b<c>", "d\u00e9/e f+g", "h\"i'j"]
    for key in keys:
        client.put_object(BUCKET, key, io.BytesIO(b"x"), 1)
    equal([entry.object_name for entry in client.list_objects(BUCKET, recursive=True)], sorted(keys, key=str.encode))
    equal(list(client.remove_objects(BUCKET, [DeleteObject(key) for key in keys])), [])
    equal(list(client.list_objects(BUCKET, recursive=True)), [])
    try:
        client.stat_object(BUCKET, keys[0])
    except S3Error as error:
        equal(error.code, "NoSuchKey")
    else:
        raise AssertionError("a deleted object is there")


def errors_tell_what_they_are_about():
    s3.put_object(Bucket=BUCKET, Key="taken", Body=b"x")
    error, about = refused(s3.get_object, Bucket=BUCKET, Key="not there & <there>")
    equal((error["Code"], error["Message"], error["Key"]), ("NoSuchKey", "The specified key does not exist.", "not there & <there>"))
    equal(bool(about["RequestId"] and about["HostId"]), True)
    error, _ = refused(s3.list_objects_v2, Bucket="answers-that-are-not-there")
    equal((error["Code"], error["BucketName"]), ("NoSuchBucket", "answers-that-are-not-there"))
    # fsspec makes files exclusively by this.
    error, _ = refused(s3.put_object, Bucket=BUCKET, Key="taken", Body=b"y", IfNoneMatch="*")
    equal((error["Code"], error["Condition"]), ("PreconditionFailed", "If-None-Match"))
    error, _ = refused(s3.get_object, Bucket=BUCKET, Key="taken", Range="bytes=5-9")
    equal((error["Code"], error["ActualObjectSize"], error["RangeRequested"]), ("InvalidRange", "1", "bytes=5-9"))
    error, _ = refused(s3.list_parts, Bucket=BUCKET, Key="taken", UploadId="none")
    equal((error["Code"], error["UploadId"]), ("NoSuchUpload", "none"))
    error, _ = refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"x", StorageClass="COLD")
    equal((error["Code"], error["StorageClassRequested"]), ("InvalidStorageClass", "COLD"))


def delete_markers():
    bucket = "answers-versions"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    for read in (s3.get_object, s3.head_object):
        _, about = refused(read, Bucket=bucket, Key="k")
        headers = about["HTTPHeaders"]
        equal(
            (about["HTTPStatusCode"], headers.get("x-amz-delete-marker"), headers.get("x-amz-version-id")), (404, "true", marker)
        )
        _, about = refused(read, Bucket=bucket, Key="k", VersionId=marker)
        headers = about["HTTPHeaders"]
        equal((about["HTTPStatusCode"], headers.get("allow"), "last-modified" in headers), (405, "DELETE", True))
    for version in s3.list_object_versions(Bucket=bucket)["Versions"]:
        s3.delete_object(Bucket=bucket, Key="k", VersionId=version["VersionId"])
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker)
    s3.delete_bucket(Bucket=bucket)


def post(form, file, **fields):
    """Posts a form as a browser does, with its button behind the file."""
    pairs = {**form["fields"], **fields}
    parts = [*pairs.items(), ("file", ("a file.txt", file, "text/plain")), ("go", "Upload")]
    body, content_type = urllib3.encode_multipart_formdata(parts)
    return http.request("POST", form["url"], body=body, headers={"Content-Type": content_type}, redirect=False)


def forms():
    form = s3.generate_presigned_post(
        BUCKET, "form/${filename}", Fields={"success_action_status": "201", "x-amz-meta-colour": "blue"},
        Conditions=[{"success_action_status": "201"}, {"x-amz-meta-colour": "blue"}, ["content-length-range", 1, MIB]],
    )
    answer = post(form, b"from a browser")
    equal(answer.status, 201)
    equal(b"<Key>form/a file.txt</Key>" in answer.data, True)
    got = s3.get_object(Bucket=BUCKET, Key="form/a file.txt")
    equal((got["Body"].read(), got["Metadata"]), (b"from a browser", {"colour": "blue"}))
    for wrong, status, error in (
        (post(form, b"x" * (MIB + 1)), 400, b"EntityTooLarge"),
        (post(form, b""), 400, b"EntityTooSmall"),
        (post(form, b"x", **{"x-amz-meta-colour": "red"}), 403, b"AccessDenied"),
        (post(form, b"x", acl="public-read"), 403, b"AccessDenied"),
        (post(form, b"x", policy="bm8ganNvbg=="), 403, b"SignatureDoesNotMatch"),
    ):
        equal((wrong.status, b"<Code>" + error + b"</Code>" in wrong.data), (status, True))
    large = bytes(range(256)) * (5 * MIB // 256)
    plain = s3.generate_presigned_post(BUCKET, "form/large")
    equal(post(plain, large).status, 204)
    equal(s3.get_object(Bucket=BUCKET, Key="form/large")["Body"].read() == large, True)


def settings_that_were_never_set():
    """Terraform's provider reads all of these of each bucket."""
    for call, wanted in (
        (s3.get_bucket_tagging, "NoSuchTagSet"),
        (s3.get_bucket_policy, "NoSuchBucketPolicy"),
        (s3.get_bucket_policy_status, "NoSuchBucketPolicy"),
        (s3.get_bucket_cors, "NoSuchCORSConfiguration"),
        (s3.get_bucket_website, "NoSuchWebsiteConfiguration"),
        (s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
        (s3.get_bucket_replication, "ReplicationConfigurationNotFoundError"),
        (s3.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError"),
        (s3.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
        (s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration"),
    ):
        equal(code(call, Bucket=BUCKET), wanted)
    equal(s3.get_bucket_request_payment(Bucket=BUCKET)["Payer"], "BucketOwner")
    equal(s3.get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]["Rules"], [{"ObjectOwnership": "BucketOwnerEnforced"}])
    grants = s3.get_bucket_acl(Bucket=BUCKET)["Grants"]
    equal([(grant["Permission"], grant["Grantee"]["Type"]) for grant in grants], [("FULL_CONTROL", "CanonicalUser")])
    for call, field in (
        (s3.get_bucket_logging, "LoggingEnabled"),
        (s3.get_bucket_accelerate_configuration, "Status"),
        (s3.get_bucket_versioning, "Status"),
        (s3.get_bucket_notification_configuration, "EventBridgeConfiguration"),
    ):
        equal(field in call(Bucket=BUCKET), False)


def nothing_is_passed_over():
    def put(**extra):
        return code(s3.put_object, Bucket=BUCKET, Key="refused", Body=io.BytesIO(b"x"), **extra)

    equal(put(ACL="public-read"), "AccessControlListNotSupported")
    equal(put(GrantRead="id=1"), "AccessControlListNotSupported")
    equal(put(ServerSideEncryption="aws:kms:dsse"), "NotImplemented")
    equal(put(ServerSideEncryption="aws:kms", SSEKMSKeyId="nobody"), "KMS.NotFoundException")
    equal(put(SSECustomerAlgorithm="AES128", SSECustomerKey="k" * 32), "InvalidEncryptionAlgorithmError")
    equal(put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate="2099-01-01"), "InvalidRequest")
    equal(put(ExpectedBucketOwner=STRANGER), "AccessDenied")
    equal(code(s3.get_object, Bucket=BUCKET, Key="taken", ExpectedBucketOwner=STRANGER), "AccessDenied")
    equal(code(s3.delete_bucket, Bucket=BUCKET, ExpectedBucketOwner=STRANGER), "AccessDenied")
    equal(code(s3.put_bucket_acl, Bucket=BUCKET, ACL="public-read"), "AccessControlListNotSupported")
    equal(code(s3.head_object, Bucket=BUCKET, Key="refused"), "404")
    s3.put_object(Bucket=BUCKET, Key="granted", Body=b"x", ACL="bucket-owner-full-control", RequestPayer="requester")


def main():
    table = Table()
    s3.create_bucket(Bucket=BUCKET)
    for check in (
        odd_keys, keys_in_other_spellings, errors_tell_what_they_are_about, delete_markers, forms, settings_that_were_never_set,
        nothing_is_passed_over,
    ):
        table.check(check.__name__.replace("_", " "), check)
    table.finish()


if __name__ == "__main__":
    sys.exit(main())
