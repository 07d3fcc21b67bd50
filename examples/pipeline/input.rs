//! Where orders come from: a file or standard input, line by line, by a wait that can be told to
//! stop; or a generator with a seed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cleanbreak::{CancelToken, threads};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

/// A line that is longer is cut, and then no order any more.
const LONGEST: usize = 4096;

/// A line, or why there is none.
pub(crate) enum Step {
    Line(String),
    /// The input is at its end.
    End,
    /// The token was cancelled. What was read by then is in [`Input::rest`].
    Told,
}

pub(crate) enum Input {
    Lines(Lines),
    Generated(Generator),
}

impl Input {
    pub(crate) fn next(&mut self, token: &CancelToken) -> io::Result<Step> {
        match self {
            Self::Lines(lines) => lines.next(token),
            Self::Generated(generator) => Ok(match token.is_cancelled() {
                true => Step::Told,
                false => generator.next().map_or(Step::End, Step::Line),
            }),
        }
    }

    /// What was taken from the source and not given out: whole lines, and the beginning of one, if
    /// that is nowhere else any more.
    pub(crate) fn rest(&mut self) -> (Vec<String>, Option<String>) {
        let Self::Lines(lines) = self else {
            return (Vec::new(), None);
        };
        let whole = std::iter::from_fn(|| lines.whole_line()).collect();
        let cut = !lines.is_file && !lines.buffer.is_empty();
        let cut = cut.then(|| text(lines.buffer.make_contiguous()));
        (whole, cut)
    }
}

pub(crate) struct Lines {
    source: OwnedFd,
    is_file: bool,
    bell: Arc<OwnedFd>,
    buffer: VecDeque<u8>,
    /// Where to look on for the end of a line.
    searched: usize,
}

impl Lines {
    pub(crate) fn of_file(file: File) -> io::Result<Self> {
        let is_file = file.metadata()?.is_file();
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self {
            source: file.into(),
            is_file,
            bell: Arc::new(bell),
            buffer: VecDeque::new(),
            searched: 0,
        })
    }

    pub(crate) fn of_stdin() -> io::Result<Self> {
        Self::of_file(io::stdin().as_fd().try_clone_to_owned()?.into())
    }

    fn next(&mut self, token: &CancelToken) -> io::Result<Step> {
        'reading: loop {
            if token.is_cancelled() {
                return Ok(Step::Told);
            }
            if let Some(line) = self.whole_line() {
                return Ok(Step::Line(line));
            }
            self.await_input(token)?;
            if token.is_cancelled() {
                continue 'reading;
            }
            let mut chunk = [0; LONGEST];
            match rustix::io::read(&self.source, &mut chunk) {
                Ok(0) if self.buffer.is_empty() => return Ok(Step::End),
                Ok(0) => self.buffer.push_back(b'\n'), // the last line needs no end
                Ok(length) => self.buffer.extend(&chunk[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn whole_line(&mut self) -> Option<String> {
        let found = self
            .buffer
            .range(self.searched..)
            .position(|&byte| byte == b'\n');
        let end = match found {
            Some(at) => self.searched + at,
            None if self.buffer.len() >= 2 * LONGEST => self.buffer.len() - 1,
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };
        self.searched = 0;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(text(&line))
    }

    /// Returns when there is input, or the token is cancelled.
    fn await_input(&self, token: &CancelToken) -> io::Result<()> {
        let bell = self.bell.clone();
        let _hook = token.on_cancel(move || {
            let _ = rustix::io::write(&bell, &1_u64.to_ne_bytes());
        });
        let _wait = threads::waiting_on("read an order");
        let mut fds = [
            PollFd::new(&self.source, PollFlags::IN),
            PollFd::new(&self.bell, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(error) if io::Error::from(error).kind() != ErrorKind::Interrupted => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim().to_owned()
}

/// Orders that look like real ones, one in fifty not.
pub(crate) struct Generator {
    rng: fastrand::Rng,
    skus: Vec<String>,
    made: u64,
    wanted: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64, skus: Vec<String>, wanted: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            skus,
            made: 0,
            wanted,
        }
    }

    fn next(&mut self) -> Option<String> {
        if self.made == self.wanted {
            return None;
        }
        self.made += 1;
        let (made, rng) = (self.made, &mut self.rng);
        let quantity = rng.u32(1..=3);
        let country = rng.choice(["DE", "FR", "PL", "US", "JP"]).unwrap_or("DE");
        let sku = rng.choice(&self.skus).map_or("none", String::as_str);
        Some(match rng.u32(0..100) {
            0 => format!("g{made},{sku},many,{country}"),
            1 => format!("g{made},{sku},{quantity},Atlantis"),
            _ => format!("g{made},{sku},{quantity},{country}"),
        })
    }
}
