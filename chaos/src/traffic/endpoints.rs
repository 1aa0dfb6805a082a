//! Whom clients ask: nodes that are known not to work are left out, as a load balancer leaves them out.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use rand::Rng;

use crate::s3::S3;

struct One {
    s3: S3,
    fit: AtomicBool,
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
        let one = |s3| One { s3, fit: AtomicBool::new(true), changes: AtomicU64::new(0) };
        Self { all: Arc::new(all.into_iter().map(one).collect()) }
    }

    pub fn set_fit(&self, node: usize, fit: bool) {
        if let Some(one) = self.all.get(node)
            && one.fit.swap(fit, Ordering::Relaxed) != fit
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

    /// Whether it was fit all the time since it was chosen.
    pub fn was_fit_since(&self, node: usize, mark: u64) -> bool {
        let one = &self.all[node];
        one.fit.load(Ordering::Relaxed) && one.changes.load(Ordering::Relaxed) == mark
    }
}
