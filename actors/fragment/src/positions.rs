//! Which fragments of a stripe.

/// A set of positions in a stripe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions([u64; 4]);

impl Positions {
    pub fn insert(&mut self, position: u8) {
        self.0[usize::from(position >> 6)] |= 1 << (position & 63);
    }

    pub fn contains(self, position: u8) -> bool {
        self.0[usize::from(position >> 6)] & (1 << (position & 63)) != 0
    }

    pub fn len(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    /// The lowest.
    pub fn first(self) -> Option<u8> {
        (0..=u8::MAX).find(|position| self.contains(*position))
    }
}

impl FromIterator<u8> for Positions {
    fn from_iter<I: IntoIterator<Item = u8>>(positions: I) -> Self {
        let mut set = Self::default();
        positions.into_iter().for_each(|position| set.insert(position));
        set
    }
}
