//! Which faults, where, how often.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::guard::Chaos;
use crate::cancel::CancelToken;
use crate::fault::{Fault, Injected, KINDS, Odds, Point, Rates, points};

/// Which faults are injected where and how often, by which seed.
///
/// A new plan injects nothing. What is said later of the same point and fault counts.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::CancelToken;
/// use cleanbreak::chaos::{Fault, Plan};
///
/// let token = CancelToken::new();
/// let chaos = Plan::seeded(7)
///     .everywhere(Fault::Delay, 20)
///     .everywhere(Fault::Cancel, 2)
///     .at("channel.send", Fault::Delay, 2)
///     .delays_up_to(Duration::from_micros(100))
///     .cancels(&token)
///     .start()
///     .unwrap();
/// while !token.is_cancelled() {
///     cleanbreak::chaos::point("my.loop");
/// }
/// assert!(token.cause().unwrap().to_string().starts_with("chaos: cancel at my.loop"));
/// assert_eq!(chaos.finish().total_of(Fault::Cancel), 1);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a plan does nothing until it is started"]
pub struct Plan {
    rates: Rates,
    tokens: Vec<CancelToken>,
    refused: Option<PlanError>,
    wants_tokens: bool,
}

impl Plan {
    /// A plan of no faults yet, that decides by this seed.
    pub fn seeded(seed: u64) -> Self {
        let mut longest = [Duration::ZERO; KINDS];
        longest[Fault::Delay as usize] = Duration::from_micros(500);
        longest[Fault::Late as usize] = Duration::from_millis(5);
        longest[Fault::Jump as usize] = Duration::from_millis(50);
        let rates = Rates {
            seed,
            library: vec![Odds::default(); points().len()],
            own: BTreeMap::new(),
            own_else: Odds::default(),
            longest,
            exactly: None,
        };
        Self {
            rates,
            tokens: Vec::new(),
            refused: None,
            wants_tokens: false,
        }
    }

    /// A plan of exactly these faults, or those of them that the run comes by, and no others. Other
    /// settings but [`cancels`](Self::cancels) mean nothing then.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::chaos::{Fault, Plan, fails};
    ///
    /// let run = |plan: Plan| {
    ///     let chaos = plan.start().unwrap();
    ///     let failed: Vec<_> = (0..9).filter(|_| fails("disk.write")).collect();
    ///     (failed, chaos.finish())
    /// };
    /// let (failed, report) = run(Plan::seeded(7).at("disk.write", Fault::Refuse, 2));
    /// let (again, _) = run(Plan::replay(report.injected()));
    /// assert_eq!(again, failed); // all of them
    /// let (one, _) = run(Plan::replay(&report.injected()[..1]));
    /// assert_eq!(one, failed[..1]); // or some
    /// ```
    pub fn replay<'a>(faults: impl IntoIterator<Item = &'a Injected>) -> Self {
        let mut plan = Self::seeded(0);
        let entry = |injected: &Injected| {
            let Injected {
                lineage,
                point,
                pass,
                fault,
                amount,
            } = injected.clone();
            ((lineage, point.to_owned(), pass), (fault, amount))
        };
        let exactly: BTreeMap<_, _> = faults.into_iter().map(entry).collect();
        plan.wants_tokens = exactly.values().any(|(fault, _)| *fault == Fault::Cancel);
        plan.rates.exactly = Some(exactly);
        plan
    }

    /// One in so many passes through each point that may have this fault; 0 for none. Points of your
    /// own may have all that they can, but panics only where [`at`](Self::at) names them.
    pub fn everywhere(mut self, fault: Fault, one_in: u32) -> Self {
        for (point, odds) in points().iter().zip(&mut self.rates.library) {
            if point.faults.contains(&fault) {
                odds[fault as usize] = one_in;
            }
        }
        if matches!(fault, Fault::Delay | Fault::Cancel | Fault::Refuse) {
            self.rates.own_else[fault as usize] = one_in;
            let own = self.rates.own.values_mut();
            own.for_each(|odds| odds[fault as usize] = one_in);
        }
        self.wants_tokens |= fault == Fault::Cancel && one_in > 0;
        self
    }

    /// One in so many passes through this point, of the library or of your own; 0 for none.
    ///
    /// A name whose part (what is before the first dot) is one of the library's is the library's.
    pub fn at(mut self, point: &str, fault: Fault, one_in: u32) -> Self {
        self.wants_tokens |= fault == Fault::Cancel && one_in > 0;
        match self.odds_of(point, fault) {
            Ok(odds) => odds[fault as usize] = one_in,
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
        self
    }

    fn odds_of(&mut self, name: &str, fault: Fault) -> Result<&mut Odds, PlanError> {
        let unfit = || PlanError::Unfit {
            point: name.to_owned(),
            fault,
        };
        if let Some(number) = points().iter().position(|point| point.name == name) {
            return match points()[number].faults.contains(&fault) {
                true => Ok(&mut self.rates.library[number]),
                false => Err(unfit()),
            };
        }
        if points().iter().any(|point| part(point) == part_of(name)) {
            return Err(PlanError::Unknown(name.to_owned()));
        }
        if matches!(fault, Fault::Early | Fault::Late | Fault::Jump) {
            return Err(unfit());
        }
        let rates = &mut self.rates;
        let own = rates.own.entry(name.to_owned());
        Ok(own.or_insert(rates.own_else))
    }

    /// The longest delay; 500 µs by default. Short ones are as frequent as long ones.
    pub fn delays_up_to(mut self, longest: Duration) -> Self {
        self.rates.longest[Fault::Delay as usize] = longest;
        self
    }

    /// How late a deadline or a tick may come; 5 ms by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::chaos::{Fault, Plan};
    ///
    /// let plan = Plan::seeded(7).everywhere(Fault::Late, 1);
    /// let chaos = plan.late_by_up_to(Duration::from_millis(1)).start().unwrap();
    /// CancelToken::new().child_timeout(Duration::from_millis(1)).wait(); // up to 1 ms longer
    /// let report = chaos.finish();
    /// assert!(report.injected()[0].amount <= Duration::from_millis(1));
    /// ```
    pub fn late_by_up_to(mut self, longest: Duration) -> Self {
        self.rates.longest[Fault::Late as usize] = longest;
        self
    }

    /// How far a clock may leap at a time; 50 ms by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::chaos::{Fault, Plan};
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let hour = Duration::from_secs(3600);
    /// let plan = Plan::seeded(7).everywhere(Fault::Jump, 1);
    /// let chaos = plan.jumps_up_to(hour).start().unwrap();
    /// let clock = Clock::isolated(); // the clocks that the process shares do not leap
    /// let (token, before) = (CancelToken::with_clock(&clock), clock.now());
    /// while chaos.report().total_of(Fault::Jump) == 0 {
    ///     token.child_timeout(Duration::from_millis(1)).wait(); // its timer thread sleeps
    /// }
    /// let leap = chaos.finish().injected()[0].amount;
    /// assert!(leap <= hour && clock.now().duration_since(before) >= leap);
    /// ```
    pub fn jumps_up_to(mut self, longest: Duration) -> Self {
        self.rates.longest[Fault::Jump as usize] = longest;
        self
    }

    /// A token that may be cancelled. Of several, the seed picks one each time.
    pub fn cancels(mut self, token: &CancelToken) -> Self {
        self.tokens.push(token.clone());
        self
    }

    /// Begins the scope: for this thread, and what it starts, until the guard is dropped. In
    /// another scope, it takes that one's place for the time.
    ///
    /// # Errors
    ///
    /// When the plan names a point that the library does not have, or a fault that cannot happen
    /// there, or has cancellations but no token for them.
    pub fn start(self) -> Result<Chaos, PlanError> {
        match self.refused {
            Some(refused) => Err(refused),
            None if self.wants_tokens && self.tokens.is_empty() => Err(PlanError::NothingToCancel),
            None => Ok(Chaos::begin(self.rates, self.tokens)),
        }
    }
}

fn part(point: &Point) -> &'static str {
    part_of(point.name)
}

fn part_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// A plan that cannot be.
///
/// # Examples
///
/// ```
/// use cleanbreak::chaos::{Fault, Plan, PlanError};
///
/// let started = |plan: Plan| plan.start().map(drop).unwrap_err();
/// let unknown = started(Plan::seeded(1).at("channel.sned", Fault::Delay, 2));
/// assert_eq!(unknown, PlanError::Unknown("channel.sned".into()));
/// let unfit = started(Plan::seeded(1).at("channel.send", Fault::Refuse, 2));
/// assert!(matches!(unfit, PlanError::Unfit { fault: Fault::Refuse, .. }));
/// let tokenless = started(Plan::seeded(1).everywhere(Fault::Cancel, 2));
/// assert_eq!(tokenless, PlanError::NothingToCancel);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The part is the library's, but it has no such point.
    Unknown(String),
    /// This fault cannot happen at that point.
    #[non_exhaustive]
    Unfit {
        /// The name of the point.
        point: String,
        /// What was to happen there.
        fault: Fault,
    },
    /// There are cancellations in the plan, and no token to cancel.
    NothingToCancel,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "the library has no point \"{name}\""),
            Self::Unfit { point, fault } => {
                write!(f, "the point \"{point}\" cannot have the fault \"{fault}\"")
            }
            Self::NothingToCancel => f.write_str("the plan cancels, but was given no token"),
        }
    }
}

impl std::error::Error for PlanError {}
