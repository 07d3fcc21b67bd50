//! Dumps that arbitrary bytes describe, as text, JSON and pprof: nothing panics, and what comes out
//! is well formed and says what went in.

#[cfg(fuzzing)]
pub(crate) use super::{
    stacks::random::{walk_made_up_stack, walk_made_up_tables},
    task::read_made_up_files,
};

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::time::Duration;

use super::dump::{Module, ThreadDump};
use super::stack::{Frame, Line, Stack, StackProblem, TakenBy};
use super::thread::{DumpedThread, OsState, SystemCall};
use crate::noise::Noise;
use crate::sync::Arc;
use crate::threads::{ThreadInfo, TokenPath};

/// Of what a dump says, what a profile of it has to say: the label `thread`, and functions.
type Said = Vec<(String, Vec<String>)>;

pub(crate) fn write_made_up_dump(bytes: &[u8]) {
    let dump = made_up(&mut Noise(bytes));
    let (_, _) = (dump.to_string(), dump.grouped().to_string());
    let _json = dump.to_json();
    #[cfg(test)]
    drop(serde_json::from_str::<serde_json::Value>(&_json).unwrap());
    let raw = gunzip(&dump.to_pprof());
    let mut expected: Said = dump.threads.iter().map(said).collect();
    let mut found = Profile::read(&raw).said();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

fn said(thread: &DumpedThread) -> (String, Vec<String>) {
    let lines = thread.stack.lines().map(|line| match line {
        Line::Frame(frame) => frame.to_string(),
        Line::Omitted(_) => "[frames left out]".to_owned(),
    });
    let problem = thread.stack.problem().map(|problem| format!("[{problem}]"));
    (thread.name.clone(), lines.chain(problem).collect())
}

fn text(noise: &mut Noise<'_>) -> String {
    String::from_utf8_lossy(noise.slice(12)).into_owned()
}

fn made_up(noise: &mut Noise<'_>) -> ThreadDump {
    let modules = (0..noise.byte() % 3).map(|_| {
        let start = noise.number();
        let text = start..start.saturating_add(noise.number());
        let (path, base) = (self::text(noise).into(), noise.number());
        Module { path, text, base }
    });
    let modules = modules.collect();
    // One place in the code is the same functions each time.
    let mut places: HashMap<u64, Vec<Frame>> = HashMap::new();
    for _ in 0..noise.byte() % 8 {
        let address = noise.number();
        let mut frames: Vec<_> = (0..=noise.byte() % 3)
            .map(|_| frame(noise, address, true))
            .collect();
        frames.push(frame(noise, address, false));
        places.insert(address, frames);
    }
    let mut addresses: Vec<_> = places.keys().copied().collect();
    addresses.sort_unstable();
    let threads = (0..noise.byte() % 8)
        .map(|_| thread(noise, &places, &addresses))
        .collect();
    let problems = (0..noise.byte() % 3).map(|_| text(noise)).collect();
    ThreadDump {
        threads,
        problems,
        modules,
        deadlocks: Vec::new(),
    }
}

fn frame(noise: &mut Noise<'_>, address: u64, inlined: bool) -> Frame {
    let mut maybe = || -> Option<Arc<str>> { noise.one_in(3).then(|| text(noise).into()) };
    Frame {
        address,
        module: maybe(),
        function: maybe(),
        symbol: maybe(),
        file: maybe(),
        offset: noise.number(),
        line: noise.one_in(2).then(|| noise.number() as u32),
        column: noise.one_in(2).then(|| noise.number() as u32),
        inlined,
    }
}

fn thread(
    noise: &mut Noise<'_>,
    places: &HashMap<u64, Vec<Frame>>,
    addresses: &[u64],
) -> DumpedThread {
    const TAKEN: [TakenBy; 3] = [TakenBy::Look, TakenBy::Signal, TakenBy::Own];
    const PROBLEMS: [StackProblem; 3] = [
        StackProblem::Running,
        StackProblem::Garbled,
        StackProblem::Denied,
    ];
    let (mut frames, mut omitted) = (Vec::new(), None);
    if !addresses.is_empty() {
        for _ in 0..noise.byte() % 12 {
            if noise.one_in(12) {
                omitted = Some((noise.byte().into(), frames.len()));
            }
            let address = addresses[noise.number() as usize % addresses.len()];
            frames.extend(places[&address].iter().cloned());
        }
    }
    let problem = noise.byte();
    let tid = noise.one_in(2).then(|| noise.number() as u32);
    let name = text(noise);
    let age = Duration::from_nanos(noise.number());
    let library = noise.one_in(3).then(|| ThreadInfo {
        id: noise.number(),
        tid,
        name: name.clone(),
        spawned_at: Location::caller(),
        age,
        waiting: None,
        token: noise.one_in(2).then(|| TokenPath {
            ids: (0..=noise.byte() % 4)
                .map(|_| noise.number() as usize)
                .collect(),
            cut: noise.one_in(3),
            cancelled: noise.one_in(3),
        }),
    });
    DumpedThread {
        tid,
        name,
        is_current: noise.one_in(5),
        state: noise
            .one_in(2)
            .then(|| OsState::from_letter(noise.byte().into())),
        system_call: noise.one_in(2).then(|| SystemCall(noise.number() as u32)),
        age: noise.one_in(2).then_some(age),
        blocked: noise.one_in(2).then_some(age),
        library,
        stack: Stack {
            frames,
            omitted,
            taken: TAKEN[usize::from(noise.byte()) % TAKEN.len()],
            problem: PROBLEMS.get(usize::from(problem)).copied(),
            addresses: [noise.number()].into(),
        },
    }
}

/// By RFC 1952, with nothing but what has to be there.
fn gunzip(file: &[u8]) -> Vec<u8> {
    let (header, rest) = file.split_at(10);
    assert_eq!(header, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let (deflated, tail) = rest.split_at(rest.len() - 8);
    let raw = miniz_oxide::inflate::decompress_to_vec(deflated).expect("a stream");
    let mut crc = !0_u32;
    for bit in raw
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1))
    {
        let carry = (crc ^ u32::from(bit)) & 1;
        crc = (crc >> 1) ^ (carry * 0xedb8_8320);
    }
    let numbers = [!crc, raw.len() as u32].map(u32::to_le_bytes).concat();
    assert_eq!(tail, numbers, "check sum and length");
    raw
}

/// A message, decoded: of each field its number, and its value or its bytes.
struct Fields<'a>(Vec<(u64, u64, &'a [u8])>);

impl<'a> Fields<'a> {
    fn read(mut from: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !from.is_empty() {
            let key = varint(&mut from);
            let value = varint(&mut from);
            let bytes: &[u8] = match key & 7 {
                0 => &[],
                2 => from
                    .split_off(..value as usize)
                    .expect("as long as it says"),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, value, bytes));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = (u64, &'a [u8])> {
        let of = self.0.iter().filter(move |(number, ..)| *number == field);
        of.map(|(_, value, bytes)| (*value, *bytes))
    }

    fn messages(&self, field: u64) -> impl Iterator<Item = Self> {
        self.all(field).map(|(_, bytes)| Self::read(bytes))
    }

    /// Zero is left out.
    fn number(&self, field: u64) -> u64 {
        let mut all = self.all(field);
        let value = all.next().map_or(0, |(value, _)| value);
        assert!(all.next().is_none(), "field {field} is there twice");
        value
    }
}

fn varint(from: &mut &[u8]) -> u64 {
    let length = from.iter().position(|byte| *byte < 0x80).expect("an end") + 1;
    let bytes = from.split_off(..length).expect("it is there");
    let groups = bytes.iter().enumerate();
    let value = groups.map(|(at, byte)| u64::from(byte & 0x7f) << (7 * at));
    value.sum()
}

fn packed(mut from: &[u8]) -> Vec<u64> {
    let mut values = Vec::new();
    while !from.is_empty() {
        values.push(varint(&mut from));
    }
    values
}

/// As `profile.proto` says, with its rules: what is named by a number is there, once.
struct Profile {
    /// Their functions, by number.
    locations: HashMap<u64, Vec<String>>,
    samples: Vec<Sample>,
}

/// Locations, count and labels.
type Sample = (Vec<u64>, u64, Vec<(String, String)>);

impl Profile {
    fn read(raw: &[u8]) -> Self {
        let all = Fields::read(raw);
        let text = |(_, bytes): (_, &[u8])| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let texts: Vec<_> = all.all(6).map(text).collect();
        assert_eq!(texts[0], "");
        assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
        let text = |number: u64| texts[number as usize].clone();
        let types: Vec<_> = all.messages(1).collect();
        assert_eq!(types.len(), 1);
        assert_eq!(text(types[0].number(1)), "threads");
        let mappings: Vec<_> = all.messages(3).map(|it| it.number(1)).collect();
        assert!(mappings.iter().copied().eq(1..=mappings.len() as u64));
        let mut functions = HashMap::new();
        for it in all.messages(5) {
            assert_ne!(it.number(1), 0);
            let (_, _) = (text(it.number(3)), text(it.number(4)));
            let before = functions.insert(it.number(1), text(it.number(2)));
            assert_eq!(before, None);
        }
        let mut locations = HashMap::new();
        for it in all.messages(4) {
            assert!(it.number(2) == 0 || mappings.contains(&it.number(2)));
            assert_ne!(it.number(1), 0);
            let lines = it
                .messages(4)
                .map(|line| functions[&line.number(1)].clone());
            let before = locations.insert(it.number(1), lines.collect());
            assert_eq!(before, None::<Vec<String>>);
        }
        let mut samples = Vec::new();
        for it in all.messages(2) {
            let at = it.all(1).flat_map(|(_, bytes)| packed(bytes)).collect();
            let values: Vec<_> = it.all(2).flat_map(|(_, bytes)| packed(bytes)).collect();
            let labels = it
                .messages(3)
                .map(|it| (text(it.number(1)), text(it.number(2))));
            assert_eq!(values.len(), types.len());
            samples.push((at, values[0], labels.collect()));
        }
        Self { locations, samples }
    }

    fn said(&self) -> Said {
        let mut said = Vec::new();
        for (at, count, labels) in &self.samples {
            let name = labels.iter().find(|(key, _)| key == "thread");
            let name = name.map(|(_, name)| name.clone()).expect("a name");
            let functions: Vec<_> = at
                .iter()
                .flat_map(|at| self.locations[at].clone())
                .collect();
            said.extend((0..*count).map(|_| (name.clone(), functions.clone())));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn any_dump_is_text_json_and_a_profile_that_says_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..1_500),
        ) {
            write_made_up_dump(&bytes);
        }

        #[test]
        fn any_text_comes_back_from_a_json_parser(text in any::<String>()) {
            let json = super::super::json::Text(&text).to_string();
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
