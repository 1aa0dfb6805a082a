//! What was read a moment ago is believed for a moment: the bound on how late a change is heeded.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// How long anything is believed, counted from before it was read.
pub(super) const STALENESS: Duration = Duration::from_secs(3);
/// Bounds the memory that made-up names can take (BND-1).
const MOST_ENTRIES: usize = 4096;
/// Of what the values say they weigh.
const MOST_BYTES: usize = 16 << 20;

/// What is believed of things by their names.
pub(super) struct Recent<V> {
    shelf: Mutex<Shelf<V>>,
}

struct Shelf<V> {
    entries: HashMap<String, Entry<V>>,
    bytes: usize,
}

struct Entry<V> {
    since: Instant,
    /// One reads; the others wait for that.
    value: Arc<OnceCell<V>>,
    bytes: usize,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { shelf: Mutex::new(Shelf { entries: HashMap::new(), bytes: 0 }) }
    }
}

impl<V: Clone> Recent<V> {
    /// What is believed, or else what `read` finds, which is given what was believed before. Errors are not believed.
    pub(super) async fn get<E>(
        &self,
        name: &str,
        weigh: impl Fn(&V) -> usize,
        read: impl AsyncFnOnce(Option<V>) -> Result<V, E>,
    ) -> Result<V, E> {
        let (value, before) = self.shelf.lock().take_up(name);
        if let Some(found) = value.get() {
            return Ok(found.clone());
        }
        let found = value.get_or_try_init(|| read(before)).await?.clone();
        self.shelf.lock().weigh(name, &value, weigh(&found));
        Ok(found)
    }
}

impl<V: Clone> Shelf<V> {
    /// The place for the value of a name, and the value that was there when that is too old.
    fn take_up(&mut self, name: &str) -> (Arc<OnceCell<V>>, Option<V>) {
        let before = match self.entries.get(name) {
            Some(entry) if entry.since.elapsed() < STALENESS => return (entry.value.clone(), None),
            Some(entry) => entry.value.get().cloned(),
            None => None,
        };
        if self.entries.len() >= MOST_ENTRIES {
            self.make_room();
        }
        let value = Arc::new(OnceCell::new());
        let entry = Entry { since: Instant::now(), value: value.clone(), bytes: 0 };
        if let Some(old) = self.entries.insert(name.to_owned(), entry) {
            self.bytes -= old.bytes;
        }
        (value, before)
    }

    fn weigh(&mut self, name: &str, value: &Arc<OnceCell<V>>, bytes: usize) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| Arc::ptr_eq(&entry.value, value)) else { return };
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        if self.bytes > MOST_BYTES {
            self.make_room();
        }
    }

    /// Forgets what is too old and, if that is not enough, everything.
    fn make_room(&mut self) {
        self.entries.retain(|_, entry| entry.since.elapsed() < STALENESS);
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
        if self.entries.len() >= MOST_ENTRIES || self.bytes > MOST_BYTES {
            self.entries.clear();
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn what_was_read_is_believed_and_errors_are_not() {
        let recent = Recent::<u32>::default();
        let get = async |value: Result<u32, ()>| recent.get("a", |_| 1, async |_| value).await;
        assert_eq!(get(Err(())).await, Err(()));
        assert_eq!(get(Ok(1)).await, Ok(1));
        assert_eq!(get(Ok(2)).await, Ok(1));
        recent.shelf.lock().entries.get_mut("a").unwrap().since -= STALENESS;
        let before = recent.get("a", |_| 1, async |before| Ok::<_, ()>(before.unwrap() + 10)).await;
        assert_eq!(before, Ok(11));
    }

    #[tokio::test]
    async fn bnd_1_made_up_names_and_large_values_take_a_bounded_place() {
        let recent = Recent::<u32>::default();
        for number in 0..3 * MOST_ENTRIES {
            recent.get(&number.to_string(), |_| 1, async |_| Ok::<_, ()>(1)).await.unwrap();
        }
        assert!(recent.shelf.lock().entries.len() <= MOST_ENTRIES);
        for number in 0..100 {
            recent.get(&format!("large {number}"), |_| 1 << 20, async |_| Ok::<_, ()>(1)).await.unwrap();
            let shelf = recent.shelf.lock();
            assert!(shelf.bytes <= MOST_BYTES);
            assert_eq!(shelf.bytes, shelf.entries.values().map(|entry| entry.bytes).sum::<usize>());
        }
    }
}
