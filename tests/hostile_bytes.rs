//! Whatever bytes a server sends, every decoder comes to an end, without a panic, and takes no more memory than the bytes
//! that are really there are worth.
//!
//! A few cases in `make test`, very many in `make soak` (`PROPTEST_CASES`). The targets are all places where bytes from
//! Cassandra are taken apart: `blue::cell`, the converters with their JSON check, the exhibit for the rejects file, and
//! the decoders of `verify`, which are others.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;

use kongferry::cql::CqlType;
use kongferry::cql::cell::{self, Elements};
use kongferry::mapping::conversion::Conversion;
use kongferry::mapping::json::{self, JsonType};
use kongferry::mapping::row_json;
use kongferry::mapping::schema_map::{JsonShape, SchemaMap};
use kongferry::mapping::table_plan::{KeyspacePlan, TableChoices};
use kongferry::mapping::transcode::{RowContext, RowNotes, Transcoder};
use kongferry::verify;
use kongferry::verify::prefixed_columns::PrefixedColumns;
use kongferry::verify::reading_rules::ReadingRules;
use proptest::prelude::*;

mod catalogs;

/// Counts what this thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // While a thread ends there is nothing to count any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: everything is left to the system's allocator; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What one call may take: a fixed room, and so much for each byte that it was given.
const ROOM: usize = 64 << 10;
const PER_BYTE: usize = 256;

/// Runs one decoder and fails where it takes more memory than its bytes are worth.
#[track_caller]
fn bounded<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    let taken = usize::try_from(MOST.get() - before).unwrap_or(0);
    assert!(taken <= ROOM + PER_BYTE * bytes, "{taken} bytes of memory for {bytes} bytes of input");
    result
}

/// Bytes that mean harm: lengths that promise too much, or less than nothing, before bytes of any sort.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![any::<i32>(), Just(i32::MAX), Just(-1), 0..40_i32];
    let piece = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..40),
        3 => length.prop_map(|length| length.to_be_bytes().to_vec()),
        1 => "[\\[{\"\\\\:,}\\]0-9eE.a-u-]{0,60}".prop_map(String::into_bytes),
        1 => (1..3000_usize, prop_oneof![Just("["), Just("{\"a\":"), Just("[{\"a\":[")]).prop_map(|(deep, open)| open.repeat(deep).into_bytes()),
        1 => "\\PC{0,20}".prop_map(String::into_bytes),
        1 => Just(b"{\"a\": [1, {\"b\": \"\\u00e9\"}], \"c\": null}".to_vec()),
        1 => Just(b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n".to_vec()),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// Every pair of types that there is a converter for, and its target's element.
fn conversions() -> &'static [Conversion] {
    static ALL: OnceLock<Vec<Conversion>> = OnceLock::new();
    const BLUE: &[&str] = &[
        "uuid",
        "timeuuid",
        "text",
        "ascii",
        "int",
        "smallint",
        "tinyint",
        "bigint",
        "counter",
        "boolean",
        "timestamp",
        "float",
        "double",
        "blob",
        "list<text>",
        "set<text>",
        "set<uuid>",
        "list<int>",
        "set<bigint>",
        "list<timestamp>",
        "map<text, text>",
        "map<text, int>",
        "map<text, frozen<set<text>>>",
        "map<text, frozen<map<text, frozen<list<double>>>>>",
        "map<text, uuid>",
        "map<text, boolean>",
    ];
    const GREEN: &[&str] = &[
        "uuid",
        "text",
        "character varying(5)",
        "character(5)",
        "integer",
        "bigint",
        "smallint",
        "boolean",
        "timestamp with time zone",
        "timestamp without time zone",
        "real",
        "double precision",
        "bytea",
        "json",
        "jsonb",
        "text[]",
        "uuid[]",
        "integer[]",
        "bigint[]",
        "jsonb[]",
        "json[]",
        "timestamp with time zone[]",
    ];
    ALL.get_or_init(|| {
        let pairs = BLUE.iter().flat_map(|blue| GREEN.iter().map(move |green| (*blue, *green)));
        let all = pairs.filter_map(|(blue, green)| {
            Conversion::between(&CqlType::parse(blue), green, 25, JsonShape::Object)
        });
        all.collect()
    })
}

/// The lines of Kong versions whose catalogs were recorded.
const RECORDED: [&str; 5] = ["2.8", "3.0", "3.1", "3.2", "3.3"];

/// The plans and reading rules of every table of every line.
struct Lines {
    plans: Vec<KeyspacePlan>,
    tables: Vec<ReadingRules>,
}

fn lines() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let mut lines = Lines { plans: Vec::new(), tables: Vec::new() };
        for map in SchemaMap::built_in().expect("maps") {
            let Some(line) = map.line.clone().filter(|line| RECORDED.contains(&line.as_str())) else {
                continue;
            };
            let (blue, green) = (catalogs::blue(&line), catalogs::green(&line));
            let choices =
                TableChoices { include: blue.tables.keys().cloned().collect(), ..TableChoices::default() };
            let prefixes = PrefixedColumns::of_line(&line).expect("the data");
            let plan = KeyspacePlan::resolve(&map, &blue, &green, &choices);
            for table in &plan.moved {
                let rules = map.tables.get(&table.table).cloned().unwrap_or_default();
                lines.tables.push(ReadingRules::new(
                    &blue.tables[&table.table],
                    &green.tables[&table.table],
                    &rules,
                    &map.names,
                    &prefixes,
                ));
            }
            lines.plans.push(plan);
        }
        assert!(lines.tables.len() > 80, "{} tables", lines.tables.len());
        lines
    })
}

/// Cells of one row: hostile, null, or of a width that fits.
fn cells() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let one = prop_oneof![
        2 => hostile().prop_map(Some),
        1 => Just(None),
        2 => proptest::collection::vec(any::<u8>(), 16).prop_map(Some),
        1 => any::<i64>().prop_map(|number| Some(number.to_be_bytes().to_vec())),
        1 => any::<i32>().prop_map(|number| Some(number.to_be_bytes().to_vec())),
    ];
    proptest::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn the_elements_of_a_collection_end(bytes in hostile()) {
        bounded(bytes.len(), || {
            let _ = (cell::int(&bytes), cell::bigint(&bytes));
            for elements in [Elements::of_collection(&bytes), Elements::of_map(&bytes)].into_iter().flatten() {
                assert!(elements.left() <= bytes.len());
                assert!(elements.count() <= bytes.len());
            }
        });
    }

    #[test]
    fn every_conversion_ends(bytes in hostile()) {
        for conversion in conversions() {
            bounded(bytes.len(), || {
                let mut out = Vec::new();
                let _ = conversion.write(&bytes, &mut out);
                assert!(out.len() <= 64 + 16 * bytes.len(), "{} bytes of {}", out.len(), bytes.len());
            });
        }
    }

    #[test]
    fn the_check_of_json_ends(bytes in hostile()) {
        for json_type in [JsonType::Json, JsonType::Jsonb] {
            let _ = bounded(bytes.len(), || json::check(&bytes, json_type));
        }
    }

    #[test]
    fn the_decoders_of_verify_end(bytes in hostile()) {
        bounded(bytes.len(), || verify::json::canonical(&bytes));
        bounded(bytes.len(), || verify::cells::number(&bytes));
    }

    #[test]
    fn every_row_of_kong_ends_in_the_stage_or_in_a_reject(cells in cells(), mark in any::<bool>(), which in any::<prop::sample::Index>()) {
        let given: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
        let size = cells.iter().flatten().map(Vec::len).sum::<usize>() + cells.len();
        let surroundings = RowContext::default();
        let tables: Vec<_> = lines().plans.iter().flat_map(|plan| &plan.moved).collect();
        let table = which.get(&tables);
        // More or fewer cells than were asked for are hostile too; the partition is the one that Kong reads.
        let mut row = given.clone();
        if let (true, Some((at, value))) = (mark, &table.partition)
            && let Some(cell) = row.get_mut(*at)
        {
            *cell = Some(value.as_bytes());
        }
        bounded(size + 64 * table.columns.len(), || {
            let (mut out, mut remarks) = (Vec::new(), RowNotes::default());
            let _ = Transcoder::new(table, &surroundings).row(&row, &mut out, &mut remarks);
        });
        bounded(size + 64 * table.columns.len(), || (row_json::row(table, &row), row_json::key(table, &row)));
    }

    #[test]
    fn every_row_of_kong_can_be_read_for_the_proof(cells in cells(), which in any::<prop::sample::Index>()) {
        let given: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
        let size = cells.iter().flatten().map(Vec::len).sum::<usize>() + cells.len();
        let table = which.get(&lines().tables);
        bounded(size + 64 * table.column_count(), || table.read_in_every_way(&given));
    }
}
