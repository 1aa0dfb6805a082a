//! S3's own sentences, which users and clients look for.

/// What S3 says with a code, where nothing more particular is to be said.
pub(crate) fn message_of(code: &str) -> Option<&'static str> {
    MESSAGES.iter().find(|(known, _)| *known == code).map(|(_, message)| *message)
}

const MESSAGES: [(&str, &str); 49] = [
    ("AccessControlListNotSupported", "The bucket does not allow ACLs"),
    ("AccessDenied", "Access Denied"),
    ("AuthorizationHeaderMalformed", "The authorization header that you provided is not valid."),
    ("BadDigest", "The Content-MD5 you specified did not match what we received."),
    (
        "BucketAlreadyExists",
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.",
    ),
    ("BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it."),
    ("BucketNotEmpty", "The bucket you tried to delete is not empty"),
    ("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"),
    ("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"),
    ("IllegalVersioningConfigurationException", "The Versioning element must be specified"),
    ("IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"),
    ("InternalError", "We encountered an internal error. Please try again."),
    ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    ("InvalidArgument", "Invalid Argument"),
    ("InvalidBucketName", "The specified bucket is not valid."),
    ("InvalidDigest", "The Content-MD5 you specified was invalid."),
    (
        "InvalidPart",
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    ("InvalidPartNumber", "The requested partnumber is not satisfiable"),
    ("InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number."),
    ("InvalidPolicyDocument", "The content of the form does not meet the conditions specified in the policy document."),
    ("InvalidRange", "The requested range is not satisfiable"),
    ("InvalidRequest", "Invalid Request"),
    ("InvalidStorageClass", "The storage class you specified is not valid"),
    ("InvalidTag", "The tag provided was not a valid tag."),
    ("InvalidToken", "The provided token is malformed or otherwise invalid."),
    ("InvalidURI", "Couldn't parse the specified URI."),
    ("KeyTooLongError", "Your key is too long"),
    ("MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data."),
    ("MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"),
    ("MaxMessageLengthExceeded", "Your request was too big."),
    ("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size"),
    ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    ("MissingContentLength", "You must provide the Content-Length HTTP header."),
    ("MissingRequestBodyError", "Request Body is empty"),
    ("MissingSecurityHeader", "Your request was missing a required header"),
    ("NoSuchBucket", "The specified bucket does not exist"),
    ("NoSuchKey", "The specified key does not exist."),
    (
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    ),
    ("NoSuchVersion", "The specified version does not exist."),
    ("NotImplemented", "A header you provided implies functionality that is not implemented"),
    ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
    ("RequestHeaderSectionTooLarge", "Your request header section exceeds the maximum allowed size"),
    (
        "RequestTimeout",
        "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.",
    ),
    ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    ("ServiceUnavailable", "Service is unable to handle request."),
    (
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    ),
    ("SlowDown", "Please reduce your request rate."),
    (
        "UserKeyMustBeSpecified",
        "The bucket POST must contain the specified field name. If it is specified, please check the order of the fields.",
    ),
    ("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."),
];
