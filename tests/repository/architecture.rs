//! The module structure, held by the `use` lines of `src` (docs/architecture.md).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every module of the crate: its path (`green::apply`) and its text without comments.
struct Crate {
    modules: BTreeMap<String, String>,
}

impl Crate {
    /// Without the unit tests, which may look at more than the code beside them.
    fn without_tests() -> Crate {
        Crate::read(|text| text.split("#[cfg(test)]\nmod ").next().unwrap_or_default())
    }

    fn read(part: fn(&str) -> &str) -> Crate {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut modules = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder of src") {
                let path = entry.expect("an entry of src").path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = module_name(&root, &path) {
                    modules.insert(name, code(part(&std::fs::read_to_string(&path).expect("a source file"))));
                }
            }
        }
        Crate { modules }
    }

    /// The modules that a module imports, re-exports followed to where an item is defined.
    fn imports(&self, module: &str) -> BTreeSet<String> {
        let paths = paths(&self.modules[module]);
        let paths = paths.iter().filter_map(|path| self.resolve(module, path, 0));
        paths.filter(|target| target != module).collect()
    }

    /// The module in which the item at `path`, as written in `module`, is defined.
    fn resolve(&self, module: &str, path: &[String], depth: usize) -> Option<String> {
        let mut here: Vec<&str> = match path.first()?.as_str() {
            "crate" => Vec::new(),
            _ => module.split("::").filter(|segment| !segment.is_empty()).collect(),
        };
        let mut rest = path.iter().map(String::as_str).peekable();
        while let Some(segment) = rest.next_if(|segment| ["crate", "self", "super"].contains(segment)) {
            if segment == "super" {
                here.pop();
            }
        }
        while let Some(segment) = rest.peek() {
            let deeper = [&here[..], &[segment]].concat().join("::");
            if !self.modules.contains_key(&deeper) {
                break;
            }
            here.push(segment);
            rest.next();
        }
        let target = here.join("::");
        let Some(item) = rest.next() else { return Some(target) };
        let reexport =
            self.reexports(&target).into_iter().find(|path| path.last().is_some_and(|last| last == item));
        match reexport {
            Some(path) if depth < 8 => self.resolve(&target, &path, depth + 1),
            _ => Some(target),
        }
    }

    fn reexports(&self, module: &str) -> Vec<Vec<String>> {
        let Some(text) = self.modules.get(module) else { return Vec::new() };
        let children = |path: &Vec<String>| {
            let first = path.first().map(String::as_str);
            first != Some("crate") && first != Some("super")
        };
        statements(text, "pub").into_iter().filter(children).map(|path| from_child(&path)).collect()
    }
}

/// `child::Item` of a re-export, written as `self::child::Item`.
fn from_child(path: &[String]) -> Vec<String> {
    let path = path.strip_prefix(&["self".to_owned()]).unwrap_or(path);
    [&["self".to_owned()], path].concat()
}

/// `src/green/apply/mod.rs` is `green::apply`; `main.rs` and `lib.rs` are no modules of their own.
fn module_name(root: &Path, path: &Path) -> Option<String> {
    let path: PathBuf = path.strip_prefix(root).expect("a path below src").with_extension("");
    let mut segments: Vec<&str> = path.iter().map(|part| part.to_str().expect("UTF-8")).collect();
    if segments.last() == Some(&"mod") {
        segments.pop();
    }
    let name = segments.join("::");
    if name == "main" || name == "lib" { None } else { Some(name) }
}

/// The text without comments.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path that begins with `crate`, `super` or `self`, in `use` lines and in expressions.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = statements(text, "");
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let inside =
                text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "_:".contains(c));
            if !inside {
                let end = |c: char| !c.is_alphanumeric() && c != '_' && c != ':';
                let path = text[at..].split(end).next().unwrap_or_default();
                found.push(segments(path));
            }
        }
    }
    found.retain(|path| {
        path.first().is_some_and(|first| ["crate", "super", "self"].contains(&first.as_str()))
    });
    found
}

/// The paths of `use` statements, braces expanded; with `pub` in front only re-exports.
fn statements(text: &str, visibility: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("use ") {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        if !(line.is_empty() || line.starts_with("pub")) || !line.starts_with(visibility) {
            continue;
        }
        let statement = text[at + 4..].split(';').next().unwrap_or_default();
        expand(&statement.split_whitespace().collect::<Vec<_>>().join(" "), &mut found);
    }
    found
}

fn expand(path: &str, found: &mut Vec<Vec<String>>) {
    let Some((before, inner)) = path.split_once('{') else {
        return found.push(segments(path.split(" as ").next().unwrap_or_default()));
    };
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                let part = inner[start..at].trim();
                if !part.is_empty() {
                    expand(&format!("{before}{part}"), found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
}

/// Groups of modules that reach each other, each in one line with the imports between them.
fn cycles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut left = vec![from];
        while let Some(next) = left.pop() {
            left.extend(imports[next].iter().filter(|target| seen.insert((*target).clone())));
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|module| (module, reach(module))).collect();
    let mut groups: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for (module, targets) in &reached {
        let group: BTreeSet<String> =
            targets.iter().filter(|target| reached[target].contains(*module)).cloned().collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    let line = |group: &BTreeSet<String>| {
        let edges = group.iter().flat_map(|from| {
            imports[from].iter().filter(|to| group.contains(*to)).map(move |to| format!("{from} -> {to}"))
        });
        edges.collect::<Vec<_>>().join(", ")
    };
    groups.iter().map(line).collect()
}

#[test]
fn no_modules_import_each_other() {
    let source = Crate::without_tests();
    let imports = source.modules.keys().map(|module| (module.clone(), source.imports(module))).collect();
    let found = cycles(&imports);
    assert!(found.is_empty(), "{} cycles of imports:\n{}", found.len(), found.join("\n"));
}

#[test]
fn folders_do_not_import_each_other() {
    let source = Crate::without_tests();
    let folder = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in source.modules.keys() {
        let targets = source.imports(module).into_iter().map(|target| folder(&target));
        let from = folder(module);
        imports
            .entry(from.clone())
            .or_default()
            .extend(targets.filter(|target| *target != from && !target.is_empty()));
    }
    let found = cycles(&imports);
    assert!(found.is_empty(), "{} cycles of imports:\n{}", found.len(), found.join("\n"));
}

/// What no module below `from` may import, with the reason.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("blue", &["green", "mapping", "migrate", "verify", "cli"], "reading knows nothing of PostgreSQL"),
    ("green", &["blue", "migrate", "verify", "cli"], "writing knows nothing of Cassandra"),
    ("mapping", &["blue", "green", "migrate", "verify", "cli"], "the mapping opens no connection"),
    (
        "verify",
        &[
            "cql::cell",
            "green::apply",
            "green::checks",
            "green::stage",
            "inspect::prefixes",
            "mapping::canonical_json",
            "mapping::conversion",
            "mapping::json",
            "mapping::pg_binary",
            "mapping::prefix",
            "mapping::resolver",
            "mapping::row_json",
            "mapping::table_plan",
            "mapping::text",
            "mapping::transcode",
            "migrate",
            "repair",
        ],
        "the proof does not share the code that it proves",
    ),
    (
        "cutover",
        &["blue", "green", "mapping", "migrate", "verify"],
        "databases are reached through one trait",
    ),
];

#[test]
fn fences_between_modules_hold() {
    let source = Crate::read(|text| text);
    let below = |module: &str, folder: &str| module == folder || module.starts_with(&format!("{folder}::"));
    let mut found = Vec::new();
    for (from, forbidden, reason) in FORBIDDEN {
        // A fence around a module that was renamed would hold whatever is imported.
        for folder in std::iter::once(from).chain(*forbidden) {
            let exists = source.modules.keys().any(|module| below(module, folder));
            assert!(exists, "the fence of {from} names {folder}, which does not exist");
        }
        for module in source.modules.keys().filter(|module| below(module, from)) {
            for target in source.imports(module) {
                if forbidden.iter().any(|folder| below(&target, folder)) {
                    found.push(format!("{module} imports {target}: {reason}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
