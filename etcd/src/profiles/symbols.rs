//! Resolves addresses of this process to functions.

use std::fs;

/// A function and its source position; empty and 0 if the program has no debug information.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SourceLocation {
    pub(super) function: String,
    /// The linker symbol.
    pub(super) symbol: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// A mapped executable part of a program or library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MappedFile {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The offset in the file.
    pub(super) offset: u64,
    pub(super) file: String,
}

/// The functions at an instruction address, the innermost inlined function first. Reads the program's file; may take
/// milliseconds.
pub(super) fn resolve(address: u64) -> Vec<SourceLocation> {
    let mut places = Vec::new();
    // The library expects a return address.
    let Some(behind) = address.checked_add(1).and_then(|behind| usize::try_from(behind).ok()) else {
        return places;
    };
    backtrace::resolve(std::ptr::without_provenance_mut(behind), |symbol| {
        let Some(name) = symbol.name() else { return };
        places.push(SourceLocation {
            // Without the symbol's hash.
            function: format!("{name:#}"),
            symbol: String::from_utf8_lossy(name.as_bytes()).into_owned(),
            file: symbol.filename().map(|file| file.display().to_string()).unwrap_or_default(),
            line: symbol.lineno().unwrap_or_default(),
        });
    });
    places
}

/// Frees what [`resolve`] has cached: up to the size of the program's file, which is large with debug information.
pub(super) fn forget() {
    backtrace::clear_symbol_cache();
}

/// The mapped executable files of this process; empty if `/proc/self/maps` cannot be read.
pub(super) fn mapped() -> Vec<MappedFile> {
    fs::read_to_string("/proc/self/maps").map_or(Vec::new(), |text| text.lines().filter_map(parse).collect())
}

/// Parses a line of `/proc/self/maps`, see proc(5).
fn parse(line: &str) -> Option<MappedFile> {
    let (head, file) = line.split_at_checked(line.find('/')?)?;
    let mut fields = head.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !fields.next()?.contains('x') {
        return None;
    }
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let offset = number(fields.next()?)?;
    Some(MappedFile { start: number(start)?, end: number(end)?, offset, file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn somewhere() -> u64 {
        let mut address = 0;
        backtrace::trace(|frame| {
            let own = backtrace_holds(frame, "symbols::tests::somewhere");
            if own {
                address = frame.ip().addr() as u64 - 1;
            }
            !own
        });
        address
    }

    fn backtrace_holds(frame: &backtrace::Frame, wanted: &str) -> bool {
        let mut holds = false;
        backtrace::resolve_frame(frame, |symbol| {
            holds |= symbol.name().is_some_and(|name| format!("{name:#}").ends_with(wanted));
        });
        holds
    }

    #[test]
    fn functions_of_this_program_are_known() {
        let address = somewhere();
        let places = resolve(address);
        let last = places.last().unwrap();
        assert!(last.function.ends_with("profiles::symbols::tests::somewhere"), "{places:?}");
        assert_eq!(resolve(1), []);
        assert_eq!(resolve(u64::MAX), []);
        let maps = mapped();
        assert!(maps.iter().any(|map| (map.start..map.end).contains(&address)), "{maps:x?}");
    }

    #[test]
    fn lines_of_the_kernel() {
        assert_eq!(
            parse("55d0c0a2f000-55d0c0b41000 r-xp 0002f000 fd:01 1234                       /usr/bin/a b"),
            Some(MappedFile {
                start: 0x55d0_c0a2_f000,
                end: 0x55d0_c0b4_1000,
                offset: 0x2_f000,
                file: "/usr/bin/a b".into()
            })
        );
        for other in
            ["55d0-55d1 r--p 0 fd:01 1 /a", "7ffc-7ffd r-xp 0 00:00 0 [vdso]", "", "x-y r-xp 0 0 0 /a"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
