//! What the upstream does when: the times are those of the script, in seconds and milliseconds.

/// A part of the script.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// Seconds.
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) mood: Mood,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Errors and slow answers among the good ones.
    Flaky,
    /// Takes connections, and never answers.
    Down,
}

pub(crate) const PHASES: [Phase; 4] = [
    phase("well", 0.0, 10.0, Mood::Well),
    phase("flaky", 10.0, 20.0, Mood::Flaky),
    phase("down", 20.0, 34.0, Mood::Down),
    phase("well again", 34.0, 48.0, Mood::Well),
];

/// Seconds.
pub(crate) const END: f64 = PHASES[PHASES.len() - 1].to;

const fn phase(name: &'static str, from: f64, to: f64, mood: Mood) -> Phase {
    Phase {
        name,
        from,
        to,
        mood,
    }
}

/// What the upstream does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answers with this status, after so many milliseconds.
    Answer {
        status: u16,
        after: u32,
    },
    Hang,
}

/// The fate of a request with this number that comes at `seconds`.
pub(crate) fn fate(seed: u64, number: u64, seconds: f64) -> Fate {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number));
    let usual = random.u32(40..110);
    let here = |phase: &&Phase| phase.from <= seconds && seconds < phase.to;
    let mood = PHASES
        .iter()
        .find(here)
        .map_or(Mood::Well, |phase| phase.mood);
    let (status, after) = match (mood, random.u32(0..100)) {
        (Mood::Down, _) => return Fate::Hang,
        (Mood::Flaky, 0..12) => (503, usual),
        (Mood::Flaky, 12..20) => (200, 1_000), // too late for every attempt
        (Mood::Flaky, 20..45) => (200, usual + random.u32(100..400)),
        _ => (200, usual),
    };
    Fate::Answer { status, after }
}
