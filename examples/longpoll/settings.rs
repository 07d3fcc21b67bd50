//! The settings: one table of keys serves the defaults, the configuration file, the command line
//! and `--help`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

/// Key, default, meaning. All but the ports follow a reload, for what begins after it.
const KEYS: &[(&str, &str, &str)] = &[
    ("port", "8080", "TCP port on 127.0.0.1, 0 for any free one"),
    (
        "debug-port",
        "off",
        "port of the debug page (a build with the feature debug-http)",
    ),
    ("heartbeat", "10s", "time between heartbeat lines"),
    (
        "max-connections",
        "4000",
        "connections served; a few more are answered 503, the rest dropped",
    ),
    ("max-head", "8k", "bytes of a request line with its headers"),
    ("max-body", "64k", "bytes of a published message"),
    ("max-topics", "256", "topics that hold messages"),
    ("retain", "64", "messages kept for each topic"),
    ("max-retained", "64m", "bytes of messages kept in all"),
    (
        "topic-idle",
        "10m",
        "a topic is forgotten when nobody published for so long",
    ),
    ("poll-wait", "30s", "how long a poll waits for news"),
    (
        "idle-deadline",
        "60s",
        "how long a connection may stay open between requests",
    ),
    (
        "read-deadline",
        "10s",
        "how long a client may take to send a head, and then a body",
    ),
    (
        "write-deadline",
        "10s",
        "how long a client may take to accept an answer",
    ),
    ("stop-deadline", "200ms", "shutdown phase 1: stop accepting"),
    (
        "release-deadline",
        "300ms",
        "shutdown phase 2: answer the waiting polls",
    ),
    (
        "drain-deadline",
        "300ms",
        "shutdown phase 3: let the connections close, then cut them",
    ),
    (
        "join-deadline",
        "5s",
        "shutdown phase 4: join the threads; after it the process gives up with status 70",
    ),
];

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) port: u16,
    pub(crate) debug_port: Option<u16>,
    pub(crate) heartbeat: Duration,
    pub(crate) max_connections: usize,
    pub(crate) max_head: usize,
    pub(crate) max_body: usize,
    pub(crate) max_topics: usize,
    pub(crate) retain: usize,
    pub(crate) max_retained: usize,
    pub(crate) topic_idle: Duration,
    pub(crate) poll_wait: Duration,
    pub(crate) idle_deadline: Duration,
    pub(crate) read_deadline: Duration,
    pub(crate) write_deadline: Duration,
    pub(crate) stop_deadline: Duration,
    pub(crate) release_deadline: Duration,
    pub(crate) drain_deadline: Duration,
    pub(crate) join_deadline: Duration,
}

/// What is wrong with an argument or the file, for the person who wrote it.
type Problem = String;

impl Settings {
    fn standard() -> Result<Self, Problem> {
        let mut settings = Self::default();
        KEYS.iter()
            .try_for_each(|(key, value, _)| settings.set(key, value))?;
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        let parsed = match key {
            "port" => store(&mut self.port, value.parse().ok()),
            "debug-port" => store(&mut self.debug_port, optional_port(value)),
            "heartbeat" => store(&mut self.heartbeat, duration(value)),
            "max-connections" => store(&mut self.max_connections, size(value)),
            "max-head" => store(&mut self.max_head, size(value)),
            "max-body" => store(&mut self.max_body, size(value)),
            "max-topics" => store(&mut self.max_topics, size(value)),
            "retain" => store(&mut self.retain, size(value)),
            "max-retained" => store(&mut self.max_retained, size(value)),
            "topic-idle" => store(&mut self.topic_idle, duration(value)),
            "poll-wait" => store(&mut self.poll_wait, duration(value)),
            "idle-deadline" => store(&mut self.idle_deadline, duration(value)),
            "read-deadline" => store(&mut self.read_deadline, duration(value)),
            "write-deadline" => store(&mut self.write_deadline, duration(value)),
            "stop-deadline" => store(&mut self.stop_deadline, duration(value)),
            "release-deadline" => store(&mut self.release_deadline, duration(value)),
            "drain-deadline" => store(&mut self.drain_deadline, duration(value)),
            "join-deadline" => store(&mut self.join_deadline, duration(value)),
            _ => return Err(format!("unknown setting `{key}`")),
        };
        parsed.ok_or_else(|| format!("`{value}` is not a value for `{key}`"))
    }

    /// How long all phases of a shutdown may take together.
    pub(crate) fn whole_stop(&self) -> Duration {
        self.stop_deadline + self.release_deadline + self.drain_deadline + self.join_deadline
    }

    fn merge_file(&mut self, path: &Path) -> Result<(), Problem> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(format!(
                    "{}:{number}: expected `key = value`",
                    path.display()
                ));
            };
            let set = self.set(key.trim(), value.trim());
            set.map_err(|problem| format!("{}:{number}: {problem}", path.display()))?;
        }
        Ok(())
    }
}

fn store<T>(field: &mut T, parsed: Option<T>) -> Option<()> {
    parsed.map(|value| *field = value)
}

/// `off`, or a port.
fn optional_port(text: &str) -> Option<Option<u16>> {
    match text {
        "off" => Some(None),
        port => Some(Some(port.parse().ok()?)),
    }
}

/// A positive number with an optional binary `k` or `m`.
fn size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1024),
        b'm' => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    digits
        .parse::<usize>()
        .ok()?
        .checked_mul(unit)
        .filter(|&number| number > 0)
}

/// A positive whole number of `ms`, `s` or `m`.
fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    let millis = match &text[split..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    millis
        .filter(|&millis| millis > 0)
        .map(Duration::from_millis)
}

/// The command line, kept as it was given so that a reload can lay it over the file again.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    config: Option<PathBuf>,
    given: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Serve(Arguments),
}

impl Arguments {
    /// Reads `--key value` and `--key=value`.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Command, Problem> {
        let mut arguments = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Ok(Command::Help);
            }
            let option = word
                .strip_prefix("--")
                .ok_or_else(|| format!("unexpected argument `{word}`"))?;
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => {
                    let value = words
                        .next()
                        .ok_or_else(|| format!("`{word}` needs a value"))?;
                    (option.to_owned(), value)
                }
            };
            arguments.take(key, value)?;
        }
        Ok(Command::Serve(arguments))
    }

    fn take(&mut self, key: String, value: String) -> Result<(), Problem> {
        if key == "config" {
            self.config = Some(value.into());
        } else {
            // Tried at once, so that a mistake on the command line is not blamed on the file.
            Settings::default().set(&key, &value)?;
            self.given.push((key, value));
        }
        Ok(())
    }

    /// The defaults, the file over them, the command line over both.
    pub(crate) fn settings(&self) -> Result<Settings, Problem> {
        let mut settings = Settings::standard()?;
        if let Some(path) = &self.config {
            settings.merge_file(path)?;
        }
        self.given
            .iter()
            .try_for_each(|(key, value)| settings.set(key, value))?;
        Ok(settings)
    }
}

/// The settings in force: read by every request, replaced by SIGHUP.
pub(crate) struct Live {
    arguments: Arguments,
    current: RwLock<Arc<Settings>>,
}

impl Live {
    pub(crate) fn load(arguments: Arguments) -> Result<Self, Problem> {
        let current = RwLock::new(Arc::new(arguments.settings()?));
        Ok(Self { arguments, current })
    }

    pub(crate) fn current(&self) -> Arc<Settings> {
        Arc::clone(&self.current.read())
    }

    /// Reads the file again. On a mistake in it the old settings stay in force, all of them.
    pub(crate) fn reload(&self) -> Result<(), Problem> {
        let settings = Arc::new(self.arguments.settings()?);
        *self.current.write() = settings;
        Ok(())
    }
}

pub(crate) fn help() -> String {
    let mut text = "\
A long-polling HTTP service on blocking threads that stops when it is told.

usage: longpoll [--config FILE] [--KEY VALUE]...

  GET  /poll?topic=T&since=N   the first message of T after number N; waits for it, or 204
  POST /publish?topic=T        publishes the request body
  GET  /healthz                `ok`
  GET  /stats                  counts, as JSON

SIGINT or SIGTERM stops the service in phases and exits 0; a second one exits at once (130 or
143). SIGHUP reads FILE again: lines of `key = value` with the keys below. The command line wins
over the file.

"
    .to_owned();
    for (key, default, meaning) in KEYS {
        let _ = writeln!(text, "  --{key:<18}{default:>6}  {meaning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &[&str]) -> Result<Settings, Problem> {
        match Arguments::parse(words.iter().map(|word| (*word).to_owned()))? {
            Command::Serve(arguments) => arguments.settings(),
            Command::Help => Err("help".to_owned()),
        }
    }

    #[test]
    fn every_key_has_a_default_that_its_own_parser_takes() {
        let standard = Settings::standard().unwrap();
        assert_eq!((standard.port, standard.max_body), (8080, 64 * 1024));
        assert_eq!(standard.poll_wait, Duration::from_secs(30));
        assert_eq!(standard.debug_port, None);
    }

    #[test]
    fn both_spellings_of_an_option_are_read_and_the_last_one_counts() {
        let read = settings(&["--port", "1", "--poll-wait=2s", "--port=3"]).unwrap();
        assert_eq!((read.port, read.poll_wait), (3, Duration::from_secs(2)));
        assert_eq!(settings(&["--debug-port=0"]).unwrap().debug_port, Some(0));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong: [&[&str]; 7] = [
            &["--debug-port", "on"],
            &["serve"],
            &["--port"],
            &["--port", "65536"],
            &["--max-body=0"],
            &["--poll-wait", "30"],
            &["--no", "1"],
        ];
        for words in wrong {
            let problem = settings(words).unwrap_err();
            assert!(
                problem.contains(words[0].trim_start_matches('-').split('=').next().unwrap()),
                "{problem}"
            );
        }
        assert_eq!(settings(&["--port", "1", "-h"]).unwrap_err(), "help");
        assert!(
            settings(&["--config", "/nonexistent"])
                .unwrap_err()
                .contains("/nonexistent")
        );
    }

    #[test]
    fn overflow_is_a_mistake_and_not_a_wrap() {
        assert_eq!(size("99999999999999999999"), None);
        assert_eq!(size(&format!("{}m", usize::MAX)), None);
        assert_eq!(duration(&format!("{}m", u64::MAX)), None);
        assert_eq!(duration("s"), None);
    }
}
