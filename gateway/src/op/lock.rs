//! Object lock: the configurations of buckets, and the retentions and legal holds of versions.

use bytes::Bytes;
use cairn_schema::record::{DefaultRetention, ObjectLock, Retention, RetentionPeriod};
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, dto::*};

use super::{
    Api,
    bucket_documents::Absent,
    documents::DocumentRequest,
    lock_headers::{check_ahead, hold_name, mode_name, not_a_date, parse_date, parse_hold, parse_mode},
    names::{check_key, selector},
};
use crate::{
    answer::documented,
    error::{custom, from_meta, invalid_argument},
    honour,
    shown::iso_time,
    xml::{Element, Writer, XmlError},
};

const NO_CONFIGURATION: Absent =
    Absent("ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket");
/// A hundred years, in either of S3's units.
const DAYS_MAX: u32 = 36_500;
const YEARS_MAX: u32 = 100;

impl Api {
    pub(super) async fn do_get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        let bucket = self.meta().bucket(&request.input.bucket).await.map_err(from_meta)?;
        let object_lock = bucket.object_lock.ok_or_else(|| NO_CONFIGURATION.of(&bucket.name))?;
        Ok(documented(write_configuration(object_lock)))
    }

    pub(super) async fn do_put_object_lock_configuration(
        &self,
        request: DocumentRequest,
    ) -> S3Result<S3Response<Body>> {
        request.check_digests(true)?;
        let object_lock = read_configuration(request.root("ObjectLockConfiguration")?)?;
        self.meta().set_object_lock(&request.bucket, object_lock).await.map_err(from_meta)?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_get_object_retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<S3Response<GetObjectRetentionOutput>> {
        let input = request.input;
        self.check_lockable(&input.bucket).await?;
        let version = self.inspect(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let retention = version.attributes.lock.retention.ok_or_else(never_locked)?;
        Ok(documented(Writer::document("Retention", |xml| {
            xml.text("Mode", mode_name(retention.mode));
            xml.text("RetainUntilDate", &iso_time(retention.until_ms));
        })))
    }

    /// A document without anything in it ends a retention.
    pub(super) async fn do_put_object_retention(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(true)?;
        let bypass = honour::bypasses_governance(request.headers());
        let retention = read_retention(request.root("Retention")?, self.meta().now_ms())?;
        check_key(&request.key)?;
        let selector = selector(request.query.get("versionId")?)?;
        let set = self.meta().set_retention(&request.bucket, &request.key, selector, retention, bypass);
        set.await.map_err(from_meta)?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_get_object_legal_hold(
        &self,
        request: S3Request<GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
        let input = request.input;
        self.check_lockable(&input.bucket).await?;
        let version = self.inspect(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let held = version.attributes.lock.legal_hold.ok_or_else(never_locked)?;
        Ok(documented(Writer::document("LegalHold", |xml| xml.text("Status", hold_name(held)))))
    }

    pub(super) async fn do_put_object_legal_hold(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(true)?;
        let root = request.root("LegalHold")?;
        let [status] = root.fields(["Status"])?;
        let held = parse_hold(root.required(status, "Status")?.word()?);
        let held = held.ok_or_else(|| XmlError::Value("Status".into()))?;
        check_key(&request.key)?;
        let selector = selector(request.query.get("versionId")?)?;
        let set = self.meta().set_legal_hold(&request.bucket, &request.key, selector, held);
        set.await.map_err(from_meta)?;
        Ok(S3Response::new(Body::empty()))
    }

    async fn check_lockable(&self, bucket: &str) -> S3Result<()> {
        match self.meta().bucket(bucket).await.map_err(from_meta)?.object_lock {
            Some(_) => Ok(()),
            None => Err(from_meta(cairn_schema::MetaError::NoObjectLock(bucket.to_owned()))),
        }
    }
}

fn never_locked() -> S3Error {
    let message = "The specified object does not have a ObjectLock configuration";
    custom("NoSuchObjectLockConfiguration", http::StatusCode::NOT_FOUND, message)
}

fn read_configuration(root: &Element) -> S3Result<ObjectLock> {
    let [enabled, rule] = root.fields(["ObjectLockEnabled", "Rule"])?;
    if root.required(enabled, "ObjectLockEnabled")?.word()? != "Enabled" {
        return Err(XmlError::Value("ObjectLockEnabled".into()).into());
    }
    Ok(ObjectLock { default_retention: rule.map(read_rule).transpose()? })
}

fn read_rule(rule: &Element) -> S3Result<DefaultRetention> {
    let [default] = rule.fields(["DefaultRetention"])?;
    let default = rule.required(default, "DefaultRetention")?;
    let [mode, days, years] = default.fields(["Mode", "Days", "Years"])?;
    let mode = parse_mode(default.required(mode, "Mode")?.word()?).ok_or_else(|| XmlError::Value("Mode".into()))?;
    let period = match (days, years) {
        (Some(days), None) => RetentionPeriod::Days(read_period(days, DAYS_MAX)?),
        (None, Some(years)) => RetentionPeriod::Years(read_period(years, YEARS_MAX)?),
        (None, None) => return Err(XmlError::Missing { parent: "DefaultRetention".into(), element: "Days" }.into()),
        (Some(_), Some(_)) => {
            let (parent, element) = ("DefaultRetention".into(), "Years".into());
            return Err(XmlError::UnknownElement { parent, element }.into());
        }
    };
    Ok(DefaultRetention { mode, period })
}

fn read_period(element: &Element, max: u32) -> S3Result<u32> {
    let word = element.word()?;
    let number: i64 = word.parse().map_err(|_| XmlError::Value(element.name.clone()))?;
    match u32::try_from(number) {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => {
            let too_large = "Default retention period too large.";
            let not_positive = "Default retention period must be a positive integer value.";
            Err(invalid_argument(&element.name, word, if number > 0 { too_large } else { not_positive }))
        }
    }
}

fn write_configuration(object_lock: ObjectLock) -> Bytes {
    Writer::document("ObjectLockConfiguration", |xml| {
        xml.text("ObjectLockEnabled", "Enabled");
        let Some(default) = object_lock.default_retention else { return };
        xml.element("Rule", |xml| {
            xml.element("DefaultRetention", |xml| {
                xml.text("Mode", mode_name(default.mode));
                match default.period {
                    RetentionPeriod::Days(days) => xml.shown("Days", days),
                    RetentionPeriod::Years(years) => xml.shown("Years", years),
                }
            });
        });
    })
}

fn read_retention(root: &Element, now_ms: u64) -> S3Result<Option<Retention>> {
    let [mode, until] = root.fields(["Mode", "RetainUntilDate"])?;
    if mode.is_none() && until.is_none() {
        return Ok(None);
    }
    let mode = parse_mode(root.required(mode, "Mode")?.word()?).ok_or_else(|| XmlError::Value("Mode".into()))?;
    let until = root.required(until, "RetainUntilDate")?.word()?;
    let until_ms = parse_date(until).ok_or_else(|| not_a_date("RetainUntilDate", until))?;
    check_ahead("RetainUntilDate", until, until_ms, now_ms)?;
    Ok(Some(Retention { mode, until_ms }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_schema::record::RetentionMode;

    use super::*;
    use crate::xml::parse;

    fn configuration(rule: &str) -> S3Result<ObjectLock> {
        let document = format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
        );
        read_configuration(&parse(document.as_bytes()).unwrap())
    }

    #[test]
    fn configurations_are_read_strictly_and_come_back() {
        let rule = |inner: &str| format!("<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>");
        let mode = "<Mode>GOVERNANCE</Mode>";
        for (inner, code) in [
            ("<Days>0</Days>", "InvalidArgument"),
            ("<Years>-1</Years>", "InvalidArgument"),
            ("<Days>36501</Days>", "InvalidArgument"),
            ("<Years>99999999999</Years>", "InvalidArgument"),
            ("<Days>1.5</Days>", "MalformedXML"),
            ("<Days>1</Days><Years>1</Years>", "MalformedXML"),
            ("", "MalformedXML"),
            ("<Weeks>1</Weeks>", "MalformedXML"),
        ] {
            let error = configuration(&rule(&format!("{mode}{inner}"))).unwrap_err();
            assert_eq!(error.code().as_str(), code, "{inner}");
        }
        assert!(configuration(&rule("<Mode>governance</Mode><Days>1</Days>")).is_err());
        assert!(configuration("<Rule/>").is_err());
        let off = "<ObjectLockConfiguration><ObjectLockEnabled>Disabled</ObjectLockEnabled></ObjectLockConfiguration>";
        assert!(read_configuration(&parse(off.as_bytes()).unwrap()).is_err());
        assert_eq!(configuration("").unwrap(), ObjectLock::default());
        for (inner, period) in
            [("<Days>36500</Days>", RetentionPeriod::Days(36_500)), ("<Years>100</Years>", RetentionPeriod::Years(100))]
        {
            let read = configuration(&rule(&format!("{mode}{inner}"))).unwrap();
            let default = DefaultRetention { mode: RetentionMode::Governance, period };
            assert_eq!(read, ObjectLock { default_retention: Some(default) });
            assert_eq!(read_configuration(&parse(&write_configuration(read)).unwrap()).unwrap(), read);
        }
    }
}
