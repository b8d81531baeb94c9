//! What changed since it was last looked at: which conclusions are due, and which beats.
//!
//! Whoever changes something marks what depends on it; whoever draws the conclusion clears the mark. A cluster at rest
//! is clean, and then a beat that says nothing new costs no walk over the peers.

/// A set of marks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Dirty(u8);

impl Dirty {
    /// There is something to say before the next periodic beat.
    pub const BEAT: Self = Self(1);
    /// Our beats ask for acknowledgements.
    pub const ANSWER: Self = Self(1 << 1);
    /// Something that the table may depend on.
    pub const TABLE: Self = Self(1 << 2);
    /// Something that may conflict with our claims.
    pub const CLAIMS: Self = Self(1 << 3);
    /// Somebody claims what we claim; stays until that is over.
    pub const CONFLICT: Self = Self(1 << 4);
    /// Something that may clear the way for our intents.
    pub const INTENTS: Self = Self(1 << 5);
    /// Something that `ELSEWHERE` depends on.
    pub const ELSEWHERE: Self = Self(1 << 6);

    /// Nothing is due.
    pub const fn is_clean(self) -> bool {
        self.0 == 0
    }

    /// Whether any of these marks is set.
    pub const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 != 0
    }

    /// These marks and those.
    pub const fn and(self, marks: Self) -> Self {
        Self(self.0 | marks.0)
    }

    /// Sets these marks.
    pub fn mark(&mut self, marks: Self) {
        self.0 |= marks.0;
    }

    /// Sets these marks if `changed`.
    pub fn mark_if(&mut self, changed: bool, marks: Self) {
        if changed {
            self.mark(marks);
        }
    }

    /// Clears these marks, and tells whether any of them was set.
    pub fn clear(&mut self, marks: Self) -> bool {
        let was_set = self.has(marks);
        self.0 &= !marks.0;
        was_set
    }
}
