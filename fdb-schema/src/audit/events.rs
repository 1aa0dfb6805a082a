//! Events that wait or are dead, against what counts them.

use std::collections::BTreeMap;

use super::{
    Audit, Problem,
    source::{Scan, Source},
};
use crate::{
    codec::Stored,
    error::Result,
    keyspace::{self, EventField, Space},
    kv::counter,
    record::{DeadEvent, Event},
    transfer::check,
};

/// By what is counted, and of which bucket or target. Both are few: buckets with events, and what operators name.
type Counts = BTreeMap<(u8, String), i64>;

pub(super) async fn audit(source: &mut Source<'_>, audit: &mut Audit) -> Result<()> {
    let (mut found, mut counted) = (Counts::new(), Counts::new());
    for space in [Space::Event, Space::DeadEvent, Space::EventCount] {
        let mut scan = Scan::of(space);
        while let Some(rows) = source.next(&mut scan).await? {
            for row in &rows {
                if audit.readable(check::row(row)).is_none() {
                    continue;
                }
                let (key, value) = row;
                let target = || keyspace::split_event(key).map_or_else(String::new, |(target, _)| target.to_owned());
                match space {
                    Space::Event => {
                        let bucket = Event::read(key, value)?.bucket;
                        *found.entry((EventField::Waiting as u8, target())).or_default() += 1;
                        *found.entry((EventField::BucketWaiting as u8, bucket)).or_default() += 1;
                    }
                    Space::DeadEvent => {
                        DeadEvent::read(key, value)?;
                        *found.entry((EventField::Dead as u8, target())).or_default() += 1;
                    }
                    _ => {
                        let Some((field, name)) = keyspace::split_event_count(key) else { continue };
                        // What is lost has no rows.
                        if !matches!(field, EventField::Lost | EventField::BucketLost) {
                            counted.insert((field as u8, name.to_owned()), counter(Some(value)));
                        }
                    }
                }
            }
        }
    }
    let names: std::collections::BTreeSet<_> = found.keys().chain(counted.keys()).cloned().collect();
    for of in names {
        let (events, counted) = (found.get(&of).copied(), counted.get(&of).copied());
        let (events, counted) = (events.unwrap_or_default(), counted.unwrap_or_default());
        if events != counted {
            audit.report(Problem::Events { of: of.1, events, counted });
        }
    }
    Ok(())
}
