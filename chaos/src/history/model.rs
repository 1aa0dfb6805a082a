//! A key as a register: requests need something of what it holds, and may put something there.

/// What a key holds: the number of the one write that put it there; None: nothing.
pub type State = Option<u64>;

/// What a request's answer says of the key at the moment at which the request took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Anything,
    Is(State),
    IsNot(State),
}

impl Need {
    pub(super) fn holds(self, state: State) -> bool {
        match self {
            Self::Anything => true,
            Self::Is(wanted) => state == wanted,
            Self::IsNot(unwanted) => state != unwanted,
        }
    }
}

/// One request about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub client: usize,
    /// As pictures show it.
    pub name: &'static str,
    pub need: Need,
    /// What the key holds afterwards; None: the request changes nothing.
    pub writes: Option<State>,
    /// Microseconds since the run began.
    pub begun: u64,
    /// None: nobody was told what came of it, so it may have taken effect at any time since, or never.
    pub ended: Option<u64>,
}

impl Op {
    /// Whether it says or does anything: a read that failed does not.
    pub fn counts(&self) -> bool {
        self.writes.is_some() || (self.ended.is_some() && self.need != Need::Anything)
    }
}
