//! Whom clients ask: nodes that are known not to work are left out, as a load balancer leaves them out.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use rand::{Rng, seq::IteratorRandom};

use crate::s3::S3;

struct One {
    s3: S3,
    fit: AtomicBool,
    /// Not fit, and yet it can be asked: it must answer something true.
    doubtful: AtomicBool,
    /// Grows with each change of `fit`.
    changes: AtomicU64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    all: Arc<Vec<One>>,
}

impl Endpoints {
    pub fn new(all: Vec<S3>) -> Self {
        let one =
            |s3| One { s3, fit: AtomicBool::new(true), doubtful: AtomicBool::new(false), changes: AtomicU64::new(0) };
        Self { all: Arc::new(all.into_iter().map(one).collect()) }
    }

    pub fn set_fit(&self, node: usize, fit: bool) {
        if let Some(one) = self.all.get(node)
            && one.fit.swap(fit, Ordering::Relaxed) != fit
        {
            one.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn set_doubtful(&self, node: usize, doubtful: bool) {
        if let Some(one) = self.all.get(node)
            && one.doubtful.swap(doubtful, Ordering::Relaxed) != doubtful
        {
            one.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn s3(&self, node: usize) -> &S3 {
        &self.all[node].s3
    }

    /// One that is fit, else any; which, and a mark for [`Endpoints::was_fit_since`].
    pub fn choose(&self, rng: &mut impl Rng) -> (usize, u64) {
        let fit: Vec<usize> = (0..self.len()).filter(|node| self.all[*node].fit.load(Ordering::Relaxed)).collect();
        let node = if fit.is_empty() { rng.random_range(0..self.len()) } else { fit[rng.random_range(0..fit.len())] };
        (node, self.all[node].changes.load(Ordering::Relaxed))
    }

    /// One of those that a load balancer does not ask any more, and that could be asked.
    pub fn choose_doubtful(&self, rng: &mut impl Rng) -> Option<(usize, u64)> {
        let doubtful = (0..self.len()).filter(|node| self.all[*node].doubtful.load(Ordering::Relaxed));
        let node = doubtful.choose(rng)?;
        Some((node, self.all[node].changes.load(Ordering::Relaxed)))
    }

    /// Whether it could answer all the time since it was chosen.
    pub fn could_answer_since(&self, node: usize, mark: u64) -> bool {
        let one = &self.all[node];
        let could = one.fit.load(Ordering::Relaxed) || one.doubtful.load(Ordering::Relaxed);
        could && one.changes.load(Ordering::Relaxed) == mark
    }
}
