//! Builds a profile from samples: assigns ids to strings, functions and locations, and compresses the result.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use shared::time::UnixNanos;

use super::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::symbols::{MappedFile, SourceLocation};

/// A profile under construction.
pub(super) struct Builder<S> {
    /// Returns the functions of an instruction address.
    symbols: S,
    maps: Vec<MappedFile>,
    profile: Profile,
    texts: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<LocationKey, u64>,
}

#[derive(PartialEq, Eq, Hash)]
enum LocationKey {
    Address(u64),
    Name(String),
}

impl<S: Fn(u64) -> Vec<SourceLocation>> Builder<S> {
    /// A profile whose samples have values of these kinds and units, taken at `now`; `maps` are the process's mapped
    /// files.
    pub(super) fn new(
        kinds: &[(&str, &str)],
        now: UnixNanos,
        maps: Vec<MappedFile>,
        symbols: S,
    ) -> Builder<S> {
        let mut builder = Builder {
            symbols,
            maps: Vec::new(),
            profile: Profile { time_nanos: now.0, ..Profile::default() },
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        builder.text_index("");
        for (kind, unit) in kinds {
            let value_type = builder.value_type(kind, unit);
            builder.profile.sample_type.push(value_type);
        }
        for (map, id) in maps.iter().zip(1..) {
            let filename = builder.text_index(&map.file);
            builder.profile.mapping.push(Mapping {
                id,
                memory_start: map.start,
                memory_limit: map.end,
                file_offset: map.offset,
                filename,
                has_functions: true,
            });
        }
        builder.maps = maps;
        builder
    }

    /// Sets the period between two samples.
    pub(super) fn set_period(&mut self, period: i64, kind: &str, unit: &str) {
        self.profile.period = period;
        self.profile.period_type = Some(self.value_type(kind, unit));
    }

    /// Sets the duration of the sampling, in nanoseconds.
    pub(super) fn set_duration(&mut self, nanos: i64) {
        self.profile.duration_nanos = nanos;
    }

    /// Sets the kind of values that tools show by default.
    pub(super) fn set_default_sample_type(&mut self, kind: &str) {
        self.profile.default_sample_type = self.text_index(kind);
    }

    /// The location id of an instruction address.
    pub(super) fn address_location(&mut self, address: u64) -> u64 {
        if let Some(id) = self.locations.get(&LocationKey::Address(address)) {
            return *id;
        }
        let line = (self.symbols)(address).iter().map(|location| self.line(location)).collect();
        let map = self.maps.iter().position(|map| (map.start..map.end).contains(&address));
        let mapping_id = map.map_or(0, |at| at as u64 + 1);
        self.add_location(LocationKey::Address(address), Location { id: 0, mapping_id, address, line })
    }

    /// The location id of a name without an address.
    pub(super) fn named_location(&mut self, name: &str) -> u64 {
        let location = SourceLocation {
            function: name.to_owned(),
            symbol: name.to_owned(),
            ..SourceLocation::default()
        };
        let line = vec![self.line(&location)];
        self.add_location(
            LocationKey::Name(name.to_owned()),
            Location { id: 0, mapping_id: 0, address: 0, line },
        )
    }

    fn add_location(&mut self, key: LocationKey, location: Location) -> u64 {
        match self.locations.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let id = self.profile.location.len() as u64 + 1;
                self.profile.location.push(Location { id, ..location });
                *free.insert(id)
            }
        }
    }

    /// Adds a sample at a stack of locations, innermost first.
    pub(super) fn sample(&mut self, stack: Vec<u64>, value: Vec<i64>, labels: &[(&str, &str)]) {
        debug_assert_eq!(value.len(), self.profile.sample_type.len(), "one value for each kind");
        let label = labels
            .iter()
            .map(|(key, text)| Label { key: self.text_index(key), str: self.text_index(text) })
            .collect();
        self.profile.sample.push(Sample { location_id: stack, value, label });
    }

    /// The encoded profile, gzip-compressed as pprof's tools expect it.
    pub(super) fn pack(self) -> io::Result<Vec<u8>> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&self.profile.encode_to_vec())?;
        packer.finish()
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType { kind: self.text_index(kind), unit: self.text_index(unit) }
    }

    fn line(&mut self, location: &SourceLocation) -> Line {
        let key = (location.function.clone(), location.file.clone());
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry(key).or_insert(next);
        if id == next {
            let name = self.text_index(&location.function);
            let (system_name, filename) =
                (self.text_index(&location.symbol), self.text_index(&location.file));
            self.profile.function.push(Function { id, name, system_name, filename });
        }
        Line { function_id: id, line: i64::from(location.line) }
    }

    fn text_index(&mut self, text: &str) -> i64 {
        if let Some(number) = self.texts.get(text) {
            return *number;
        }
        let number = i64::try_from(self.texts.len()).unwrap_or_default();
        self.texts.insert(text.to_owned(), number);
        self.profile.string_table.push(text.to_owned());
        number
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn unpacked(bytes: &[u8]) -> Profile {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        Profile::decode(&plain[..]).unwrap()
    }

    fn location(name: &str, line: u32) -> SourceLocation {
        SourceLocation { function: name.into(), symbol: format!("_{name}"), file: "a.rs".into(), line }
    }

    #[test]
    fn texts_functions_and_locations_stand_once() {
        let maps = vec![MappedFile { start: 100, end: 200, offset: 7, file: "/bin/a".into() }];
        let symbols = |address: u64| match address {
            150 | 151 => [("inner", 3), ("outer", 9)].map(|(name, line)| location(name, line)).to_vec(),
            _ => Vec::new(),
        };
        let mut builder =
            Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")], UnixNanos(5), maps, symbols);
        builder.set_period(10, "cpu", "nanoseconds");
        let stack = [150, 151, 150, 999].map(|address| builder.address_location(address)).to_vec();
        assert_eq!(stack, [1, 2, 1, 3]);
        builder.sample(stack, vec![2, 20], &[("thread", "log")]);
        let twice = vec![builder.named_location("inner"), builder.named_location("inner")];
        builder.sample(twice, vec![1, 10], &[]);
        let profile = unpacked(&builder.pack().unwrap());

        assert_eq!(profile.string_table[0], "");
        let text = |number: i64| profile.string_table[usize::try_from(number).unwrap()].as_str();
        let mut once = profile.string_table.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), profile.string_table.len());
        assert_eq!(profile.location.iter().map(|at| at.mapping_id).collect::<Vec<_>>(), [1, 1, 0, 0]);
        let lines = &profile.location[0].line;
        let function = |id: u64| text(profile.function[usize::try_from(id).unwrap() - 1].name);
        assert_eq!((function(lines[0].function_id), lines[0].line), ("inner", 3));
        assert_eq!((function(lines[1].function_id), lines[1].line), ("outer", 9));
        assert_eq!(text(profile.function[1].system_name), "_outer");
        // Two functions with a file, and one that is only a name.
        assert_eq!(profile.function.len(), 3);
        assert_eq!(profile.sample[1].location_id, [4, 4]);
        let label = &profile.sample[0].label[0];
        assert_eq!((text(label.key), text(label.str)), ("thread", "log"));
        let period = profile.period_type.unwrap();
        assert_eq!((text(period.kind), text(period.unit), profile.period), ("cpu", "nanoseconds", 10));
        assert_eq!((profile.time_nanos, profile.mapping[0].file_offset), (5, 7));
    }
}
