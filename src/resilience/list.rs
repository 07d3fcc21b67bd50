//! Bulkheads and rate limiters that are alive, for people to look at.

use std::fmt;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::bulkhead::Bulkhead;
use super::permits::Permits;
use super::rate_limit::{Quota, RateLimiter, Single};
use crate::roll::{Listed, Roll};
use crate::sync::{Arc, Mutex, Weak};

/// A place in a list, with what a list shows of anything.
pub(super) struct Tag<T: ?Sized + 'static> {
    site: &'static Location<'static>,
    /// The last that was given.
    name: Mutex<Option<Arc<str>>>,
    listed: OnceLock<Listed<T>>,
}

impl<T: ?Sized> Tag<T> {
    pub(super) fn new(site: &'static Location<'static>) -> Self {
        Self {
            site,
            name: Mutex::new(None),
            listed: OnceLock::new(),
        }
    }

    pub(super) fn name(&self, name: &Arc<str>) {
        let before = self.name.lock().replace(name.clone());
        drop(before);
    }

    /// Gives its name to another.
    pub(super) fn rename(&self, other: &Self) {
        let name = self.name.lock().clone();
        *other.name.lock() = name;
    }

    fn known_as(&self) -> Option<String> {
        self.name.lock().as_deref().map(str::to_owned)
    }

    fn enlist(&self, roll: &'static Roll<T>, entry: Weak<T>) {
        // Once, by who makes it.
        self.listed.set(roll.enlist(entry)).ok();
    }
}

// ---- bulkheads

static BULKHEADS: Roll<ShownBulkhead> = Roll::new();

pub(super) struct ShownBulkhead {
    pub(super) tag: Tag<Self>,
    permits: Arc<Permits>,
}

impl ShownBulkhead {
    pub(super) fn enlist(permits: &Arc<Permits>, site: &'static Location<'static>) -> Arc<Self> {
        let shown = Arc::new(Self {
            tag: Tag::new(site),
            permits: permits.clone(),
        });
        shown.tag.enlist(&BULKHEADS, Arc::downgrade(&shown));
        shown
    }

    fn info(&self, id: u64) -> BulkheadInfo {
        let counts = self.permits.counts();
        BulkheadInfo {
            id,
            name: self.tag.known_as(),
            built_at: self.tag.site,
            capacity: counts.capacity,
            in_use: counts.in_use,
            waiting: self.permits.waiting(),
            closed: counts.closed,
        }
    }
}

/// A bulkhead that is alive, as [`Bulkhead::live`] found it. The numbers are of nearly one moment.
///
/// # Examples
///
/// ```
/// use cleanbreak::Bulkhead;
///
/// let line = line!() + 1;
/// let disk = Bulkhead::new(2).named("disk");
/// disk.close();
/// let found = Bulkhead::live().into_iter().find(|it| it.name.as_deref() == Some("disk")).unwrap();
/// assert_eq!((found.closed, found.built_at.line()), (true, line));
/// assert!(found.to_string().ends_with(", closed, 0 of 2 in use, 0 wait"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkheadInfo {
    /// Number of the bulkhead in this process, never used twice.
    pub id: u64,
    /// What it was last [named](Bulkhead::named).
    pub name: Option<String>,
    /// The source line that built it.
    pub built_at: &'static Location<'static>,
    /// How many permits there are.
    pub capacity: usize,
    /// How many are in use.
    pub in_use: usize,
    /// How many calls wait for one.
    pub waiting: usize,
    /// Whether it has been closed.
    pub closed: bool,
}

impl fmt::Display for BulkheadInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, at) = (self.name.as_deref().unwrap_or(""), self.built_at);
        let closed = if self.closed { ", closed" } else { "" };
        write!(f, "bulkhead {name:?} at {at}{closed}, ")?;
        let Self {
            in_use, capacity, ..
        } = self;
        write!(f, "{in_use} of {capacity} in use, {} wait", self.waiting)
    }
}

impl Bulkhead {
    /// The bulkheads that are alive, oldest first. A look, not a lock: they go on meanwhile.
    ///
    /// # Performance
    ///
    /// One lock for the list, and one for each bulkhead. One that is built, or whose last handle or
    /// permit goes, takes the list's lock once, some 0.1 µs together; a call does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Bulkhead;
    ///
    /// let uploads = Bulkhead::new(4).named("uploads");
    /// let permit = uploads.try_acquire().unwrap();
    /// let find = || Bulkhead::live().into_iter().find(|it| it.name.as_deref() == Some("uploads"));
    /// let found = find().unwrap();
    /// assert_eq!((found.in_use, found.capacity, found.waiting), (1, 4, 0));
    /// drop(permit);
    /// assert_eq!(find().unwrap().in_use, 0);
    /// drop(uploads);
    /// assert!(find().is_none());
    /// ```
    #[must_use]
    pub fn live() -> Vec<BulkheadInfo> {
        let live = BULKHEADS.live().into_iter();
        live.map(|(id, shown)| shown.info(id)).collect()
    }
}

// ---- rate limiters

static LIMITERS: Roll<dyn ShownLimiter> = Roll::new();

/// A rate limiter, with one bucket or with many.
pub(super) trait ShownLimiter: Send + Sync {
    fn info(&self, id: u64) -> RateLimiterInfo;
}

/// What can be seen of a limiter with keys, whatever they are.
pub(super) struct ShownKeyed {
    pub(super) tag: Tag<dyn ShownLimiter>,
    pub(super) quota: Quota,
    pub(super) most: usize,
    pub(super) keys: AtomicUsize,
}

impl ShownKeyed {
    pub(super) fn enlist(quota: Quota, most: usize, site: &'static Location<'static>) -> Arc<Self> {
        let shown = Arc::new(Self {
            tag: Tag::new(site),
            quota,
            most,
            keys: AtomicUsize::new(0),
        });
        enlist_limiter(&shown, &shown.tag);
        shown
    }
}

pub(super) fn enlist_limiter<L: ShownLimiter + 'static>(
    limiter: &Arc<L>,
    tag: &Tag<dyn ShownLimiter>,
) {
    let weak: Weak<L> = Arc::downgrade(limiter);
    tag.enlist(&LIMITERS, weak);
}

/// A rate limiter that is alive, as [`RateLimiter::live`] found it.
///
/// # Examples
///
/// ```
/// use cleanbreak::{Quota, RateLimiter};
///
/// let line = line!() + 1;
/// let pages = RateLimiter::new(Quota::per_minute(30)).named("pages");
/// let find = |it: &cleanbreak::resilience::RateLimiterInfo| it.name.as_deref() == Some("pages");
/// let found = RateLimiter::live().into_iter().find(find).unwrap();
/// assert_eq!((found.quota, found.built_at.line()), (pages.quota(), line));
/// assert!(found.to_string().ends_with(", 30 per 60s, 30 at once, the next call in 0.000 s"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RateLimiterInfo {
    /// Number of the limiter in this process, never used twice.
    pub id: u64,
    /// What it was last [named](RateLimiter::named).
    pub name: Option<String>,
    /// The source line that built it.
    pub built_at: &'static Location<'static>,
    /// What it allows, or what it allows each key.
    pub quota: Quota,
    /// Of one without keys: in how long a call that comes now is let through; zero is at once.
    pub wait: Option<Duration>,
    /// Of one with keys: how many are remembered, and how many may be.
    pub keys: Option<(usize, usize)>,
}

impl fmt::Display for RateLimiterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, at) = (self.name.as_deref().unwrap_or(""), self.built_at);
        write!(f, "rate limiter {name:?} at {at}, {}", self.quota)?;
        if let Some(wait) = self.wait {
            write!(f, ", the next call in {:.3} s", wait.as_secs_f64())?;
        }
        match self.keys {
            Some((keys, most)) => write!(f, ", {keys} of {most} keys"),
            None => Ok(()),
        }
    }
}

impl ShownLimiter for Single {
    fn info(&self, id: u64) -> RateLimiterInfo {
        RateLimiterInfo {
            id,
            name: self.tag.known_as(),
            built_at: self.tag.site,
            quota: self.quota,
            wait: Some(self.next_wait()),
            keys: None,
        }
    }
}

impl ShownLimiter for ShownKeyed {
    fn info(&self, id: u64) -> RateLimiterInfo {
        RateLimiterInfo {
            id,
            name: self.tag.known_as(),
            built_at: self.tag.site,
            quota: self.quota,
            wait: None,
            keys: Some((self.keys.load(Ordering::Relaxed), self.most)),
        }
    }
}

impl RateLimiter {
    /// The rate limiters that are alive, with keys or without, oldest first. A look, not a lock:
    /// they go on meanwhile.
    ///
    /// # Performance
    ///
    /// One lock for the list, and one for each limiter. One that is built, or whose last handle
    /// goes, takes the list's lock once, some 0.1 µs together; a call does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Clock, KeyedRateLimiter, Quota, RateLimiter};
    ///
    /// let clock = Clock::manual();
    /// let mails = RateLimiter::with_clock(Quota::per_second(1), &clock).named("mails");
    /// let clients = KeyedRateLimiter::<u32>::new(Quota::per_minute(60)).named("clients");
    /// let find = |name| RateLimiter::live().into_iter().find(|it| it.name.as_deref() == Some(name));
    /// assert_eq!(find("mails").unwrap().wait, Some(Duration::ZERO));
    /// mails.try_acquire().unwrap();
    /// assert_eq!(find("mails").unwrap().wait, Some(Duration::from_secs(1)));
    /// assert_eq!(find("mails").unwrap().quota.to_string(), "1 per 1s, 1 at once");
    ///
    /// clients.try_acquire(&7).unwrap();
    /// assert_eq!(find("clients").unwrap().keys, Some((1, 65_536)));
    /// drop((mails, clients));
    /// assert!(find("mails").is_none() && find("clients").is_none());
    /// ```
    #[must_use]
    pub fn live() -> Vec<RateLimiterInfo> {
        let live = LIMITERS.live().into_iter();
        live.map(|(id, limiter)| limiter.info(id)).collect()
    }
}
