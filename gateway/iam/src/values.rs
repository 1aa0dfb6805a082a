//! Numbers, times and networks as conditions compare them: exactly, and only if all of the text is one.

use std::net::IpAddr;

use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// Digits before and behind the point.
const WHOLE_DIGITS: usize = 18;
const BEHIND_DIGITS: usize = 9;

/// A decimal number in units of 10⁻⁹. None if it is none, or has more digits than bound above.
pub(crate) fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, "0"));
    let right = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !right(whole, WHOLE_DIGITS) || !right(behind, BEHIND_DIGITS) {
        return None;
    }
    let value: i128 = format!("{whole}{behind:0<BEHIND_DIGITS$}").parse().ok()?;
    Some(if negative { -value } else { value })
}

/// Nanoseconds since the Unix epoch of a time as the W3C's note on ISO 8601 writes it, or in seconds since the epoch.
pub(crate) fn instant(text: &str) -> Option<i128> {
    if let Some(seconds) = number(text) {
        return Some(seconds);
    }
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    // A time needs a whole date.
    if parts.next().is_some() || (time.is_some() && date.len() != "2000-01-01".len()) {
        return None;
    }
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    let (time, offset) = time.map_or(Some((Time::MIDNIGHT, UtcOffset::UTC)), clock)?;
    Some(OffsetDateTime::new_in_offset(date, time, offset).unix_timestamp_nanos())
}

/// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.s`, and `Z`, `+hh:mm` or `-hh:mm`.
fn clock(text: &str) -> Option<(Time, UtcOffset)> {
    let zone = text.find(['Z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone);
    let mut parts = clock.split(':');
    let small = |part: Option<&str>| u8::try_from(digits(part?, 2)?).ok();
    let (hour, minute) = (small(parts.next())?, small(parts.next())?);
    let (second, nanosecond) = match parts.next() {
        None => (0, 0),
        Some(seconds) => {
            let (second, behind) = seconds.split_once('.').unwrap_or((seconds, "0"));
            let right = (1..=BEHIND_DIGITS).contains(&behind.len()) && behind.bytes().all(|b| b.is_ascii_digit());
            let behind = right.then(|| format!("{behind:0<BEHIND_DIGITS$}").parse().ok()).flatten()?;
            (small(Some(second))?, behind)
        }
    };
    if parts.next().is_some() {
        return None;
    }
    let offset = match zone.split_at(1) {
        ("Z", "") => UtcOffset::UTC,
        (sign @ ("+" | "-"), zone) => {
            let (hours, minutes) = zone.split_once(':')?;
            let (hours, minutes) = (i8::try_from(digits(hours, 2)?).ok()?, i8::try_from(digits(minutes, 2)?).ok()?);
            let sign = if sign == "-" { -1 } else { 1 };
            UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()?
        }
        _ => return None,
    };
    Some((Time::from_hms_nano(hour, minute, second, nanosecond).ok()?, offset))
}

/// A number of just so many digits.
fn digits(text: &str, many: usize) -> Option<u16> {
    let right = text.len() == many && text.bytes().all(|byte| byte.is_ascii_digit());
    right.then(|| text.parse().ok()).flatten()
}

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// An address with `/` and how many bits count, or without: all of them.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let written: IpAddr = address.parse().ok()?;
        let most = if written.is_ipv4() { 32 } else { 128 };
        let right = |bits: &&str| (1..=3).contains(&bits.len()) && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u8 = match bits {
            Some(bits) => Some(bits).filter(right)?.parse().ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        // An IPv4 address written as one of IPv6 is the same address.
        match (written, written.to_canonical()) {
            (IpAddr::V6(_), address @ IpAddr::V4(_)) => bits.checked_sub(96).map(|bits| Self { address, bits }),
            (_, address) => Some(Self { address, bits }),
        }
    }

    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let apart = width - u32::from(self.bits);
            ours.checked_shr(apart).unwrap_or(0) == theirs.checked_shr(apart).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(ours.to_bits().into(), theirs.to_bits().into(), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }

    /// Whether it is so wide that it names nobody: wider than /8 of IPv4 or /32 of IPv6.
    pub(crate) fn is_broad(&self) -> bool {
        self.bits < if self.address.is_ipv4() { 8 } else { 32 }
    }
}
