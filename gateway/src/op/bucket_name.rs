//! Which names a new bucket may have. Buckets that are there already keep theirs.

use s3s::{S3Result, path::check_bucket_name, s3_error};

/// Reserved by S3 (Amazon S3 User Guide, "General purpose bucket naming rules"): what has such a name there is no
/// bucket, and a client that meets one may go elsewhere with it.
const PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const SUFFIXES: [&str; 6] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3", "-an"];

/// Refuses names that S3 gives to no bucket.
pub(super) fn check(name: &str) -> S3Result<()> {
    let refused = |why: &str| Err(s3_error!(InvalidBucketName, "The specified bucket is not valid: {why}."));
    if !check_bucket_name(name) {
        return Err(s3_error!(InvalidBucketName, "The specified bucket is not valid."));
    }
    if looks_like_an_address(name) {
        return refused("it has the form of an IP address");
    }
    if let Some(prefix) = PREFIXES.iter().find(|prefix| name.starts_with(*prefix)) {
        return refused(&format!("names that begin with '{prefix}' are reserved"));
    }
    if let Some(suffix) = SUFFIXES.iter().find(|suffix| name.ends_with(*suffix)) {
        return refused(&format!("names that end with '{suffix}' are reserved"));
    }
    Ok(())
}

/// Four numbers with dots between, whether or not an address can have them.
fn looks_like_an_address(name: &str) -> bool {
    let numbers = name.split('.').filter(|part| (1..=3).contains(&part.len()));
    let all_digits = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    all_digits && numbers.count() == 4 && name.matches('.').count() == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_s3_allows() {
        let longest = "a".repeat(63);
        for name in
            ["abc", "a-b", "a.b", "1ab", "123", "my.bucket-1", "1.2.3", "1.2.3.4.5", "an", "a-ana", longest.as_str()]
        {
            assert_eq!(check(name).is_ok(), name.len() > 2, "{name}");
        }
        let too_long = "a".repeat(64);
        for name in [
            "",
            "ab",
            &too_long,
            "Abc",
            "a_b",
            "a b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "192.168.5.4",
            "999.999.999.999",
            "xn--abc",
            "sthree-abc",
            "sthree-configurator-x",
            "amzn-s3-demo-bucket",
            "abc-s3alias",
            "abc--ol-s3",
            "abc.mrap",
            "abc--x-s3",
            "abc--table-s3",
            "logs-123456789012-us-east-1-an",
        ] {
            let error = check(name).map_err(|error| error.code().as_str().to_owned());
            assert_eq!(error, Err("InvalidBucketName".to_owned()), "{name}");
        }
    }
}
