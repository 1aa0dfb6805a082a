//! What was read a moment ago is believed for a moment: the bound on how late a change is heeded.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// How long anything is believed, counted from before it was read.
pub(crate) const STALENESS: Duration = Duration::from_secs(3);
/// Bounds the memory that made-up names can take (BND-1).
const MOST_ENTRIES: usize = 4096;
/// Of what the values say they weigh.
const MOST_BYTES: usize = 16 << 20;

/// What is believed of things by their names.
pub(crate) struct Recent<V> {
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
    /// What was believed before, until that is read.
    before: Option<V>,
    bytes: usize,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { shelf: Mutex::new(Shelf { entries: HashMap::new(), bytes: 0 }) }
    }
}

impl<V: Clone> Recent<V> {
    /// What is believed, or else what `read` finds, which is given what was believed before. Errors are not believed.
    pub(crate) async fn get<E>(
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

    /// What was found last, if that is still there: for those who would rather have something old than wait.
    pub(crate) fn however_old(&self, name: &str) -> Option<V> {
        let shelf = self.shelf.lock();
        let entry = shelf.entries.get(name)?;
        entry.value.get().or(entry.before.as_ref()).cloned()
    }

    /// It was changed here: what is being read of it now is not believed either.
    pub(crate) fn forget(&self, name: &str) {
        let mut shelf = self.shelf.lock();
        if let Some(entry) = shelf.entries.remove(name) {
            shelf.bytes -= entry.bytes;
        }
    }
}

impl<V: Clone> Shelf<V> {
    /// The place for the value of a name, and the value that was there when that is too old.
    fn take_up(&mut self, name: &str) -> (Arc<OnceCell<V>>, Option<V>) {
        if let Some(entry) = self.entries.get(name).filter(|entry| entry.since.elapsed() < STALENESS) {
            return (entry.value.clone(), entry.before.clone());
        }
        if self.entries.len() >= MOST_ENTRIES {
            self.make_room();
        }
        let old = self.entries.remove(name);
        // It takes its place until it is replaced.
        let bytes = old.as_ref().map_or(0, |old| old.bytes);
        let before = old.and_then(|old| old.value.get().cloned().or(old.before));
        let value = Arc::new(OnceCell::new());
        let entry = Entry { since: Instant::now(), value: value.clone(), before: before.clone(), bytes };
        self.entries.insert(name.to_owned(), entry);
        (value, before)
    }

    fn weigh(&mut self, name: &str, value: &Arc<OnceCell<V>>, bytes: usize) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| Arc::ptr_eq(&entry.value, value)) else { return };
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        entry.before = None;
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
    async fn what_is_old_is_there_while_the_new_is_not_and_what_is_forgotten_is_not() {
        let recent = Recent::<u32>::default();
        let get = async |value: Result<u32, ()>| recent.get("a", |_| 1, async |_| value).await;
        get(Ok(1)).await.unwrap();
        recent.shelf.lock().entries.get_mut("a").unwrap().since -= STALENESS;
        assert_eq!(get(Err(())).await, Err(()));
        assert_eq!(recent.however_old("a"), Some(1));
        assert_eq!(get(Ok(2)).await, Ok(2));
        assert_eq!(recent.however_old("a"), Some(2));
        // One who began to read before the change does not bring the old back.
        let late = recent.get(
            "b",
            |_| 1,
            async |_| {
                recent.forget("b");
                Ok::<_, ()>(1)
            },
        );
        assert_eq!(late.await, Ok(1));
        assert_eq!(recent.however_old("b"), None);
        recent.forget("a");
        assert_eq!(recent.however_old("a"), None);
        assert_eq!(recent.shelf.lock().bytes, 0);
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
