//! A limiter for each key, in a table of bounded size.
//!
//! Lock order: one shard at a time, and nothing else while it is locked but the key's own `Hash`
//! and `Eq`. Keys are dropped after it.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::gcra::{Bucket, Quota};
use super::{RateLimitError, await_time, check_cost, give_back, patience, reserve, take};
use crate::cancel::CancelToken;
use crate::clock::{Clock, Instant};
use crate::fault::{self, At};
use crate::resilience::CallError;
use crate::resilience::list::ShownKeyed;
use crate::sync::{Arc, Mutex, MutexGuard};

/// How many keys are remembered when nothing else is said.
const KEYS: usize = 65_536;
/// Locks of the table of keys.
const SHARDS: usize = 32;
/// A part of the table this small is not looked through for idle keys.
const FEW: usize = 64;

/// A [`RateLimiter`](super::RateLimiter) for each key: a client, an address, a tenant.
///
/// # Memory
///
/// A key whose bucket is full again is as good as one never seen, and is forgotten: when the table
/// grows, so that it holds at most about twice the keys that are in use, and when it is full. Once it
/// has [`with_max_keys`](Self::with_max_keys) keys that are all in use, new ones are refused
/// ([`TooManyKeys`](RateLimitError::TooManyKeys)) rather than let through uncounted: a flood of
/// made-up keys costs neither memory nor the keys that are known. A full table is looked through
/// at most sixteen times in the time that a bucket takes to fill up, unless that gained something;
/// so an idle key makes place within a sixteenth of that time.
///
/// # What is not guaranteed
///
/// `Hash` and `Eq` of the key run under a lock: they must not use this limiter.
///
/// # Performance
///
/// A clock reading, two hashes of the key and a lock that is shared by a 32nd of the keys; an
/// allocation when a key is new. `governor`, which hashes once and has an atomic for each key, is
/// quicker.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
/// use cleanbreak::resilience::{KeyedRateLimiter, Quota};
///
/// let clock = Clock::manual();
/// let clients = KeyedRateLimiter::<String>::with_clock(Quota::per_second(1), &clock)
///     .with_max_keys(2);
/// assert!(clients.try_acquire("ann").is_ok());
/// assert!(clients.try_acquire("ann").unwrap_err().is_limited());
/// assert!(clients.try_acquire("ben").is_ok()); // has a bucket of his own
/// assert!(clients.try_acquire("cat").unwrap_err().is_too_many_keys());
/// clock.advance(Duration::from_secs(1)); // ann and ben are forgotten
/// assert!(clients.try_acquire("cat").is_ok());
/// assert_eq!(clients.keys(), 1);
/// let answer = clients.call(&CancelToken::with_clock(&clock), "dan", |_| Ok::<_, ()>(7));
/// assert_eq!(answer.unwrap(), 7);
/// ```
pub struct KeyedRateLimiter<K> {
    name: Option<Arc<str>>,
    inner: Arc<Keyed<K>>,
}

struct Keyed<K> {
    quota: Quota,
    clock: Clock,
    /// With the number of keys in all shards. Taken before one is put in, so never more than
    /// `most`. Relaxed: the table itself is behind the locks.
    shown: Arc<ShownKeyed>,
    /// When a full table may be looked through again.
    next_sweep: AtomicU64,
    shards: Box<[Mutex<Shard<K>>]>,
}

struct Shard<K> {
    buckets: HashMap<K, Bucket>,
    /// At this size it is looked through for idle keys.
    sweep_at: usize,
}

impl<K> KeyedRateLimiter<K> {
    #[track_caller]
    fn build(quota: Quota, clock: Clock, most: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                buckets: HashMap::new(),
                sweep_at: FEW,
            })
        };
        let inner = Arc::new(Keyed {
            quota,
            clock,
            shown: ShownKeyed::enlist(quota, most, Location::caller()),
            next_sweep: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| shard()).collect(),
        });
        Self { name: None, inner }
    }

    /// What this handle and its clones are called in metrics, and the limiter in lists; without a
    /// name they are in no metrics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Clock, KeyedRateLimiter, Quota};
    ///
    /// let clients = KeyedRateLimiter::with_clock(Quota::per_second(1), &Clock::manual());
    /// let logins = clients.clone().named("logins"); // the same buckets, under a name of their own
    /// logins.try_acquire("ann").unwrap();
    /// assert!(clients.try_acquire("ann").unwrap_err().is_limited());
    /// ```
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let name = name.into();
        self.inner.shown.tag.name(&name);
        self.name = Some(name);
        self
    }

    /// A limiter on the system's clock, for up to 65,536 keys at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{KeyedRateLimiter, Quota};
    ///
    /// let quota = Quota::per_minute(1);
    /// let clients = KeyedRateLimiter::<u64>::new(quota);
    /// assert_eq!((clients.quota(), clients.keys()), (quota, 0));
    /// clients.try_acquire(&7).unwrap();
    /// assert!(clients.try_acquire(&7).unwrap_err().is_limited());
    /// ```
    #[must_use]
    #[track_caller]
    pub fn new(quota: Quota) -> Self {
        Self::with_clock(quota, &Clock::system())
    }

    /// A limiter on `clock`.
    #[must_use]
    #[track_caller]
    pub fn with_clock(quota: Quota, clock: &Clock) -> Self {
        Self::build(quota, clock.clone(), KEYS)
    }

    /// The same quota and clock, for up to `keys` keys at a time, as a new limiter.
    #[must_use]
    #[track_caller]
    pub fn with_max_keys(self, keys: usize) -> Self {
        let limiter = Self::build(self.inner.quota, self.inner.clock.clone(), keys);
        self.inner.shown.tag.rename(&limiter.inner.shown.tag);
        Self {
            name: self.name,
            ..limiter
        }
    }

    /// What it allows each key.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.inner.quota
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.inner.shown.keys.load(Ordering::Relaxed)
    }
}

impl<K: Hash + Eq> KeyedRateLimiter<K> {
    /// Lets one call of `key` through now, or refuses it.
    ///
    /// # Errors
    ///
    /// [`Limited`](RateLimitError::Limited), with the time until it would be let through;
    /// [`TooManyKeys`](RateLimitError::TooManyKeys) for a key that there is no place for.
    pub fn try_acquire<Q>(&self, key: &Q) -> Result<(), RateLimitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.try_acquire_n(key, 1)
    }

    /// Lets something of `key` through that counts as `cost` calls, now or not at all.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](Self::try_acquire), and [`TooLarge`](RateLimitError::TooLarge).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Clock, KeyedRateLimiter, Quota};
    ///
    /// let uploads = KeyedRateLimiter::with_clock(Quota::per_second(10), &Clock::manual());
    /// uploads.try_acquire_n("ann", 8).unwrap(); // 8 MB
    /// assert!(uploads.try_acquire_n("ann", 3).unwrap_err().is_limited()); // takes nothing
    /// assert!(uploads.try_acquire_n("ann", 11).unwrap_err().is_too_large()); // never
    /// uploads.try_acquire_n("ann", 2).unwrap();
    /// ```
    pub fn try_acquire_n<Q>(&self, key: &Q, cost: u32) -> Result<(), RateLimitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let quota = &self.inner.quota;
        fault::pass(At::RateAcquire);
        check_cost(quota, cost)?;
        let now = self.inner.clock.now();
        let take = |bucket: &mut Bucket| take(quota, bucket, now, cost);
        let taken = self.inner.with_bucket(key, now, take);
        taken.inspect_err(|error| error.tell(self.name.as_ref()))
    }

    /// Waits until one call of `key` is let through, as
    /// [`RateLimiter::acquire`](super::RateLimiter::acquire) does.
    ///
    /// # Errors
    ///
    /// Those of `RateLimiter::acquire`, and [`TooManyKeys`](RateLimitError::TooManyKeys), at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, KeyedRateLimiter, Quota};
    ///
    /// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
    /// let token = CancelToken::with_clock(&clock);
    /// let clients = KeyedRateLimiter::with_clock(Quota::per_second(1), &clock);
    /// clients.acquire(&token, "ann").unwrap();
    /// std::thread::scope(|scope| {
    ///     let waits = scope.spawn(|| clients.acquire(&token, "ann"));
    ///     clock.await_timers(1);
    ///     clients.acquire(&token, "ben").unwrap(); // has nothing to wait for
    ///     clock.advance(second);
    ///     assert!(waits.join().unwrap().is_ok());
    /// });
    /// let hurried = token.child_timeout(second / 2);
    /// assert!(clients.acquire(&hurried, "ann").unwrap_err().is_deadline()); // at once
    /// ```
    #[track_caller]
    pub fn acquire<Q>(&self, token: &CancelToken, key: &Q) -> Result<(), RateLimitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.acquire_within(token, key, 1, None)
    }

    /// As [`acquire`](Self::acquire), for something that counts as `cost` calls.
    ///
    /// # Errors
    ///
    /// Those of `acquire`, and [`TooLarge`](RateLimitError::TooLarge).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, KeyedRateLimiter, Quota};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock).child_timeout(Duration::from_millis(100));
    /// let uploads = KeyedRateLimiter::with_clock(Quota::per_second(10), &clock);
    /// uploads.acquire_n(&token, "ann", 10).unwrap();
    /// let refused = uploads.acquire_n(&token, "ann", 5).unwrap_err(); // not before the deadline
    /// assert_eq!(refused.retry_after(), Some(Duration::from_millis(500)));
    /// ```
    #[track_caller]
    pub fn acquire_n<Q>(
        &self,
        token: &CancelToken,
        key: &Q,
        cost: u32,
    ) -> Result<(), RateLimitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.acquire_within(token, key, cost, None)
    }

    /// As [`acquire`](Self::acquire), but refuses at once if it would have to wait for longer than
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// Those of `acquire`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, KeyedRateLimiter, Quota};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let clients = KeyedRateLimiter::with_clock(Quota::per_second(1), &clock);
    /// clients.acquire_timeout(&token, "ann", Duration::ZERO).unwrap();
    /// let half = Duration::from_millis(500);
    /// let refused = clients.acquire_timeout(&token, "ann", half).unwrap_err();
    /// assert!(refused.is_deadline()); // without a wait: it would have been too long
    /// ```
    #[track_caller]
    pub fn acquire_timeout<Q>(
        &self,
        token: &CancelToken,
        key: &Q,
        timeout: Duration,
    ) -> Result<(), RateLimitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.acquire_within(token, key, 1, Some(timeout))
    }

    #[track_caller]
    fn acquire_within<Q>(
        &self,
        token: &CancelToken,
        key: &Q,
        cost: u32,
        timeout: Option<Duration>,
    ) -> Result<(), RateLimitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let Keyed { quota, clock, .. } = &*self.inner;
        fault::pass(At::RateAcquire);
        check_cost(quota, cost)?;
        token.check()?;
        let patience = patience(token, timeout);
        let now = clock.now();
        let reserve = |bucket: &mut Bucket| reserve(quota, bucket, now, cost, patience);
        let reserved = self.inner.with_bucket(key, now, reserve);
        let reservation = reserved.inspect_err(|error| error.tell(self.name.as_ref()))?;
        let Some(at) = reservation.at else {
            return Ok(());
        };
        await_time(clock, token, at).inspect_err(|_| {
            let mut shard = self.inner.shard(key).lock();
            if let Some(bucket) = shard.buckets.get_mut(key) {
                give_back(quota, bucket, &reservation);
            }
        })
    }

    /// Runs `operation` when `key` is let through.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with the reason of [`acquire`](Self::acquire) if it did not run;
    /// [`CallError::Failed`] with its own error if it did.
    #[track_caller]
    pub fn call<Q, T, E>(
        &self,
        token: &CancelToken,
        key: &Q,
        operation: impl FnOnce(&CancelToken) -> Result<T, E>,
    ) -> Result<T, CallError<RateLimitError, E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.acquire(token, key).map_err(CallError::Refused)?;
        operation(token).map_err(CallError::Failed)
    }

    /// Forgets the keys that are idle, and returns how many that were. It happens by itself where
    /// it matters; this is for who wants the memory back after a rush.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Clock, KeyedRateLimiter, Quota};
    ///
    /// let clock = Clock::manual();
    /// let clients = KeyedRateLimiter::with_clock(Quota::per_second(1), &clock);
    /// clients.try_acquire("ann").unwrap();
    /// assert_eq!(clients.forget_idle(), 0); // her bucket is not full again yet
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!((clients.forget_idle(), clients.keys()), (1, 0));
    /// ```
    pub fn forget_idle(&self) -> usize {
        self.inner.sweep(self.inner.clock.now())
    }
}

impl<K: Hash + Eq> Keyed<K> {
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &Mutex<Shard<K>> {
        let mut hasher = Fnv::default();
        key.hash(&mut hasher);
        // The higher bits are the better mixed ones.
        &self.shards[(hasher.finish() >> 32) as usize % SHARDS]
    }

    /// Changes the bucket of `key`. A key that is new, and refused, leaves nothing.
    fn with_bucket<Q, T>(
        &self,
        key: &Q,
        now: Instant,
        change: impl Fn(&mut Bucket) -> Result<T, RateLimitError>,
    ) -> Result<T, RateLimitError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let shard = self.shard(key);
        loop {
            let mut buckets = shard.lock();
            if let Some(bucket) = buckets.buckets.get_mut(key) {
                return change(bucket);
            }
            if self.take_place() {
                return self.insert(buckets, key, now, change);
            }
            drop(buckets);
            if !self.may_sweep(now) || self.sweep(now) == 0 {
                return Err(RateLimitError::TooManyKeys {
                    keys: self.shown.most,
                });
            }
        }
    }

    /// Counts one key more, if there is place for it.
    fn take_place(&self) -> bool {
        let place = |keys| (keys < self.shown.most).then_some(keys + 1);
        let taken = self
            .shown
            .keys
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, place);
        taken.is_ok()
    }

    fn insert<Q, T>(
        &self,
        mut shard: MutexGuard<'_, Shard<K>>,
        key: &Q,
        now: Instant,
        change: impl Fn(&mut Bucket) -> Result<T, RateLimitError>,
    ) -> Result<T, RateLimitError>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        let mut bucket = 0;
        let changed = change(&mut bucket);
        if changed.is_err() {
            self.shown.keys.fetch_sub(1, Ordering::Relaxed);
            return changed;
        }
        let mut forgotten = Vec::new();
        if shard.buckets.len() >= shard.sweep_at {
            forgotten = shard.forget_idle(&self.quota, now);
            shard.sweep_at = FEW.max(2 * shard.buckets.len());
        }
        shard.buckets.insert(key.to_owned(), bucket);
        drop(shard);
        self.shown
            .keys
            .fetch_sub(forgotten.len(), Ordering::Relaxed);
        changed
    }

    /// Whether a full table may be looked through now; only one caller at a time is told so.
    fn may_sweep(&self, now: Instant) -> bool {
        let now = now.as_nanos();
        let due = |at| (at <= now).then(|| now.saturating_add(self.quota.refill() / 16));
        let ours = self
            .next_sweep
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, due);
        ours.is_ok()
    }

    /// Forgets all idle keys; how many.
    fn sweep(&self, now: Instant) -> usize {
        let mut count = 0;
        for shard in &self.shards {
            // The keys are dropped after the lock is.
            let forgotten = shard.lock().forget_idle(&self.quota, now);
            self.shown
                .keys
                .fetch_sub(forgotten.len(), Ordering::Relaxed);
            count += forgotten.len();
        }
        if count > self.shown.most / 16 {
            self.next_sweep.store(now.as_nanos(), Ordering::Relaxed);
        }
        count
    }
}

/// FNV-1a, to choose a shard: quicker than the table's own hash, which withstands made-up keys. Who
/// makes them up for one shard gets a crowded lock, and no more.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl<K: Hash + Eq> Shard<K> {
    fn forget_idle(&mut self, quota: &Quota, now: Instant) -> Vec<(K, Bucket)> {
        let idle = |_: &K, bucket: &mut Bucket| quota.is_idle(*bucket, now);
        let forgotten: Vec<_> = self.buckets.extract_if(idle).collect();
        if self.buckets.capacity() > FEW.max(4 * self.buckets.len()) {
            self.buckets.shrink_to(2 * self.buckets.len());
        }
        forgotten
    }
}

impl<K> Clone for KeyedRateLimiter<K> {
    fn clone(&self) -> Self {
        let (name, inner) = (self.name.clone(), self.inner.clone());
        Self { name, inner }
    }
}

// A panic of a key's `Hash` or `Eq` leaves the table as it was.
impl<K> std::panic::UnwindSafe for KeyedRateLimiter<K> {}
impl<K> std::panic::RefUnwindSafe for KeyedRateLimiter<K> {}

impl<K> fmt::Debug for KeyedRateLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiter")
            .field("quota", &self.inner.quota)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}
