//! Dumps as profiles for `go tool pprof`: the messages of its
//! [profile.proto](https://github.com/google/pprof/blob/main/proto/profile.proto), encoded by
//! hand, in gzip ([RFC 1952](https://www.rfc-editor.org/rfc/rfc1952)).

use std::collections::HashMap;

use super::dump::ThreadDump;
use super::stack::{Frame, Line};
use super::thread::DumpedThread;

pub(super) fn gzipped(dump: &ThreadDump) -> Vec<u8> {
    let mut profile = Profile::new(dump);
    for thread in &dump.threads {
        profile.add(thread);
    }
    gzip(&profile.finish())
}

/// A message of a protocol buffer, as far as it is written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn numbers(&mut self, field: u64, values: &[u64]) {
        let mut packed = Self::default();
        for value in values {
            packed.varint(*value);
        }
        self.message(field, &packed);
    }
}

/// What makes two threads one sample.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sample {
    locations: Vec<u64>,
    /// Keys and values, as numbers of texts.
    labels: Vec<(u64, u64)>,
}

struct Profile<'a> {
    dump: &'a ThreadDump,
    out: Message,
    texts: HashMap<String, u64>,
    /// In the order of their numbers.
    ordered: Vec<String>,
    /// By name, system name and file.
    functions: HashMap<(u64, u64, u64), u64>,
    /// By address, or by what stands for frames without one.
    locations: HashMap<(u64, u64), u64>,
    samples: HashMap<Sample, usize>,
    counts: Vec<(Sample, u64)>,
}

impl<'a> Profile<'a> {
    fn new(dump: &'a ThreadDump) -> Self {
        let mut profile = Self {
            dump,
            out: Message::default(),
            texts: HashMap::new(),
            ordered: Vec::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            samples: HashMap::new(),
            counts: Vec::new(),
        };
        profile.text(""); // has to be the first
        let (kind, unit) = (profile.text("threads"), profile.text("count"));
        let mut value_type = Message::default();
        value_type.number(1, kind);
        value_type.number(2, unit);
        profile.out.message(1, &value_type); // sample_type
        profile.out.message(11, &value_type); // period_type
        profile.out.number(12, 1); // period
        profile.mappings();
        profile
    }

    /// The number of a text in the table.
    fn text(&mut self, text: &str) -> u64 {
        if let Some(&known) = self.texts.get(text) {
            return known;
        }
        let number = self.ordered.len() as u64;
        self.texts.insert(text.to_owned(), number);
        self.ordered.push(text.to_owned());
        number
    }

    fn mappings(&mut self) {
        let dump = self.dump;
        for (index, module) in dump.modules.iter().enumerate() {
            let file = self.text(&module.path);
            let mut mapping = Message::default();
            mapping.number(1, index as u64 + 1);
            mapping.number(2, module.text.start);
            mapping.number(3, module.text.end);
            mapping.number(4, module.text.start.wrapping_sub(module.base));
            mapping.number(5, file);
            // That functions, files, lines and inlined frames are there: nothing to look up.
            (7..=10).for_each(|field| mapping.number(field, 1));
            self.out.message(3, &mapping);
        }
    }

    fn add(&mut self, thread: &DumpedThread) {
        let sample = Sample {
            locations: self.stack(thread),
            labels: self.labels(thread),
        };
        let counts = &mut self.counts;
        let at = *self.samples.entry(sample.clone()).or_insert_with(|| {
            counts.push((sample, 0));
            counts.len() - 1
        });
        self.counts[at].1 += 1;
    }

    fn labels(&mut self, thread: &DumpedThread) -> Vec<(u64, u64)> {
        let state = thread.state.map(|state| state.to_string());
        let spawned_at = thread
            .library
            .as_ref()
            .map(|info| info.spawned_at.to_string());
        let labels = [
            ("thread", Some(thread.name.clone())),
            ("state", state),
            ("spawned_at", spawned_at),
        ];
        let labels = labels
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let labels: Vec<_> = labels.collect();
        let numbered = labels
            .iter()
            .map(|(key, value)| (self.text(key), self.text(value)));
        numbered.collect()
    }

    /// Innermost first. Inlined frames are lines of the location of the next one out.
    fn stack(&mut self, thread: &DumpedThread) -> Vec<u64> {
        let mut locations = Vec::new();
        let mut lines = Vec::new();
        for line in thread.stack.lines() {
            match line {
                Line::Omitted(_) => locations.push(self.stand_in("[frames left out]")),
                Line::Frame(frame) => {
                    lines.push(frame);
                    if !frame.is_inlined() {
                        locations.push(self.location(&lines));
                        lines.clear();
                    }
                }
            }
        }
        if let Some(problem) = thread.stack.problem() {
            locations.push(self.stand_in(&format!("[{problem}]")));
        }
        locations
    }

    /// A location that is no place in the code.
    fn stand_in(&mut self, name: &str) -> u64 {
        let (name, system_name) = (self.text(name), self.text(&format!("no code: {name}")));
        let function = self.function(name, system_name, 0);
        let next = self.locations.len() as u64 + 1;
        if let Some(&known) = self.locations.get(&(0, function)) {
            return known;
        }
        let mut line = Message::default();
        line.number(1, function);
        let mut location = Message::default();
        location.number(1, next);
        location.message(4, &line);
        self.out.message(4, &location);
        self.locations.insert((0, function), next);
        next
    }

    fn location(&mut self, frames: &[&Frame]) -> u64 {
        let address = frames[0].address();
        if let Some(&known) = self.locations.get(&(address, 0)) {
            return known;
        }
        let next = self.locations.len() as u64 + 1;
        let modules = &mut self.dump.modules.iter();
        let mapping = modules.position(|module| module.text.contains(&address));
        let mut location = Message::default();
        location.number(1, next);
        location.number(2, mapping.map_or(0, |index| index as u64 + 1));
        location.number(3, address);
        for frame in frames {
            let mut line = Message::default();
            line.number(1, self.function_of(frame));
            line.number(2, frame.line().unwrap_or(0).into());
            line.number(3, frame.column().unwrap_or(0).into());
            location.message(4, &line);
        }
        self.out.message(4, &location);
        self.locations.insert((address, 0), next);
        next
    }

    fn function_of(&mut self, frame: &Frame) -> u64 {
        let name = frame.to_string();
        let file = self.text(frame.file().unwrap_or_default());
        // The viewer takes a name that equals the system's for one that is not readable yet, and
        // strips its generic parameters.
        let system_name = match frame.symbol() {
            Some(symbol) if symbol != name => self.text(symbol),
            _ => self.text(&format!("{name} in {}", frame.module().unwrap_or("?"))),
        };
        let name = self.text(&name);
        self.function(name, system_name, file)
    }

    fn function(&mut self, name: u64, system_name: u64, file: u64) -> u64 {
        let next = self.functions.len() as u64 + 1;
        let key = (name, system_name, file);
        if let Some(&known) = self.functions.get(&key) {
            return known;
        }
        self.functions.insert(key, next);
        let mut function = Message::default();
        function.number(1, next);
        function.number(2, name);
        function.number(3, system_name);
        function.number(4, file);
        self.out.message(5, &function);
        next
    }

    fn finish(mut self) -> Vec<u8> {
        for (sample, count) in &self.counts {
            let mut message = Message::default();
            message.numbers(1, &sample.locations);
            message.numbers(2, &[*count]);
            for (key, value) in &sample.labels {
                let mut label = Message::default();
                label.number(1, *key);
                label.number(2, *value);
                message.message(3, &label);
            }
            self.out.message(2, &message);
        }
        for text in &self.ordered {
            self.out.bytes(6, text.as_bytes());
        }
        self.out.0
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    const FAST: u8 = 3;
    // Magic, deflate, no flags, no time, no extra flags, system unknown.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    out.extend(miniz_oxide::deflate::compress_to_vec(bytes, FAST));
    out.extend(crc32(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes()); // modulo 2^32, says the format
    out
}

/// Of RFC 1952, by a table of the remainders of all bytes.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = remainders();
    let step = |crc: u32, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

const fn remainders() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_number_is_split_into_groups_of_seven_bits() {
        let mut message = Message::default();
        message.number(1, 300);
        message.number(2, 0);
        message.numbers(3, &[1, 128]);
        assert_eq!(message.0, [8, 0xac, 2, 0x1a, 3, 1, 0x80, 1]);
    }
}
