//! Dates as clients write them in headers.

use time::{Date, Month, OffsetDateTime, Time};

/// A date with a two-digit year that seems to lie further in the future than this is in the past (RFC 9110, 5.6.7).
const TWO_DIGIT_YEARS_AHEAD: i32 = 50;

/// Seconds since 1970 of an HTTP date in any of its three forms (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`,
/// `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`. Days and hours may have one digit, as some clients
/// write them. None for whatever else, which a recipient has to ignore.
pub(crate) fn parse_http_date(text: &str) -> Option<i64> {
    parse_at(text, OffsetDateTime::now_utc().year())
}

fn parse_at(text: &str, this_year: i32) -> Option<i64> {
    let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let (weekday, day, month, year, clock) = match *words.as_slice() {
        [weekday, day, month, year, clock, zone] if is_utc(zone) => {
            (weekday.strip_suffix(',')?, day, month, year, clock)
        }
        [weekday, date, clock, zone] if is_utc(zone) => {
            let (day, rest) = date.split_once('-')?;
            let (month, year) = rest.split_once('-')?;
            (weekday.strip_suffix(',')?, day, month, year, clock)
        }
        [weekday, month, day, clock, year] => (weekday, day, month, year, clock),
        _ => return None,
    };
    if !is_weekday(weekday) {
        return None;
    }
    let year = match (year.len(), digits(year)?) {
        (4, year) => year,
        (2, last) => full_year(last, this_year),
        _ => return None,
    };
    let date = Date::from_calendar_date(year, month_of(month)?, u8::try_from(short(day)?).ok()?).ok()?;
    Some(date.with_time(time_of(clock)?).assume_utc().unix_timestamp())
}

fn full_year(last_two: i32, this_year: i32) -> i32 {
    let year = this_year - this_year.rem_euclid(100) + last_two;
    if year > this_year + TWO_DIGIT_YEARS_AHEAD { year - 100 } else { year }
}

fn is_utc(zone: &str) -> bool {
    ["GMT", "UTC", "+0000", "-0000"].iter().any(|utc| zone.eq_ignore_ascii_case(utc))
}

fn is_weekday(text: &str) -> bool {
    const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let text = text.to_ascii_lowercase();
    DAYS.iter().any(|day| text == *day || Some(text.as_str()) == day.get(..3))
}

fn month_of(text: &str) -> Option<Month> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(text))?;
    Month::try_from(u8::try_from(at + 1).ok()?).ok()
}

fn time_of(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(short);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || second > 60 {
        return None;
    }
    // A leap second is written as 60, and is the end of the second before it here.
    let second = u8::try_from(second.min(59)).ok()?;
    Time::from_hms(u8::try_from(hour).ok()?, u8::try_from(minute).ok()?, second).ok()
}

/// One digit or two.
fn short(text: &str) -> Option<i32> {
    if text.len() <= 2 { digits(text) } else { None }
}

fn digits(text: &str) -> Option<i32> {
    // parse would take a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_http_dates_are_read() {
        for text in [
            "Tue, 09 Aug 2022 01:01:01 GMT",
            "Tue, 9 Aug 2022 01:01:01 GMT",
            "Tue, 9 Aug 2022 1:1:1 GMT",
            "tue, 09 aug 2022 01:01:01 gmt",
            "Tue, 09 Aug 2022 01:01:01 UTC",
            "Tue, 09 Aug 2022 01:01:01 +0000",
            "Tuesday, 09-Aug-22 01:01:01 GMT",
            "Tuesday, 9-Aug-22 01:01:01 GMT",
            "Tue, 09-Aug-2022 01:01:01 GMT",
            "Tue Aug  9 01:01:01 2022",
            "Tue Aug 9 01:01:01 2022",
            // The name of the day is not checked against the date.
            "Mon, 09 Aug 2022 01:01:01 GMT",
        ] {
            assert_eq!(parse_at(text, 2025), Some(1_660_006_861), "{text}");
        }
        assert_eq!(parse_at("Sat, 31 Dec 2016 23:59:60 GMT", 2025), parse_at("Sat, 31 Dec 2016 23:59:59 GMT", 2025));
        assert_eq!(parse_at("Thu, 01 Jan 1970 00:00:00 GMT", 2025), Some(0));
    }

    #[test]
    fn years_of_two_digits_are_at_most_50_years_ahead() {
        let year = |text: &str| {
            parse_at(text, 2025).and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()).map(OffsetDateTime::year)
        };
        assert_eq!(year("Sunday, 06-Nov-94 08:49:37 GMT"), Some(1994));
        assert_eq!(year("Sunday, 06-Nov-75 08:49:37 GMT"), Some(2075));
        assert_eq!(year("Sunday, 06-Nov-76 08:49:37 GMT"), Some(1976));
        assert_eq!(year("Sunday, 06-Nov-00 08:49:37 GMT"), Some(2000));
    }

    #[test]
    fn whatever_else_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "now",
            "2022-08-09T01:01:01Z",
            "1660006861",
            "Tue, 09 Aug 2022",
            "Tue, 09 Aug 2022 01:01:01",
            "Tue, 09 Aug 2022 01:01:01 PST",
            "Tue, 32 Aug 2022 01:01:01 GMT",
            "Tue, 09 Aux 2022 01:01:01 GMT",
            "Tue, 09 Aug 2022 25:01:01 GMT",
            "Tue, 09 Aug 2022 01:01:61 GMT",
            "Tue, 09 Aug +022 01:01:01 GMT",
            "Tue, 009 Aug 2022 01:01:01 GMT",
            "Tux, 09 Aug 2022 01:01:01 GMT",
            "Tue 09 Aug 2022 01:01:01 GMT",
            "Tue, 09 Aug 2022 01:01 GMT",
            "Tue Aug  9 01:01:01 2022 GMT more",
        ] {
            assert_eq!(parse_at(text, 2025), None, "{text:?}");
        }
    }
}
