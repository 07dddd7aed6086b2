//! Links lead somewhere, cited pages and sections exist, and the index knows every page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below these folders, and those of the root, with one of these extensions.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let entries = |folder: &Path| {
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
    };
    found.extend(entries(root()).filter(|path| path.is_file()));
    while let Some(folder) = open.pop() {
        for path in entries(&folder) {
            if path.is_dir() && !path.ends_with("fixtures") {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.retain(|path| {
        path.extension().is_some_and(|own| extensions.iter().any(|extension| own == *extension))
    });
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a page's address behind `#`, as it follows from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// Targets of the Markdown links of a page.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://"))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for path in files(&["docs", "schema-maps", "benches", "tests"], &["md"]) {
        let page = text(&path);
        for link in links(&page) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let is_heading = || heading.is_empty() || anchors(&text(&target)).contains(heading);
            if !target.exists() || !is_heading() {
                broken.push(format!("{}: {link}", path.strip_prefix(root()).unwrap_or(&path).display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

/// Paths of the repository that a page names in backticks, as in `src/error.rs`.
fn named_paths(page: &str) -> impl Iterator<Item = &str> {
    let folders = ["src/", "sql/", "tests/", "docs/", "schema-maps/", "benches/", ".github/"];
    let is_path = move |text: &&str| {
        folders.iter().any(|folder| text.starts_with(folder))
            && !text.contains(['*', ' ', '{', '<'])
            && *text == text.to_lowercase()
    };
    page.split('`').skip(1).step_by(2).filter(is_path)
}

#[test]
fn every_path_named_on_a_page_exists() {
    let mut missing = Vec::new();
    for path in files(&["docs", "schema-maps", "benches", "tests"], &["md"]) {
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        let page = text(&path);
        let gone = named_paths(&page).filter(|named| !root().join(named).exists());
        missing.extend(
            gone.map(|named| format!("{}: {named}", path.strip_prefix(root()).unwrap_or(&path).display())),
        );
    }
    assert!(missing.is_empty(), "paths that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn every_page_is_in_the_index() {
    let index = text(&root().join("docs/README.md"));
    let is_linked = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name == "README.md" || index.contains(&format!("]({name})"))
    };
    let pages = files(&["docs"], &["md"]).into_iter().filter(|path| path.starts_with(root().join("docs")));
    let missing: Vec<PathBuf> = pages.filter(|path| !is_linked(path)).collect();
    assert!(missing.is_empty(), "docs/README.md does not link {missing:?}");
}

/// The pages that comments cite, with the number behind a comma, as in `docs/kong-data-model.md, 4.13`.
fn citations(source: &str) -> Vec<(String, Option<String>)> {
    let found = source.match_indices("docs/").map(|(at, _)| {
        let path: String =
            source[at..].chars().take_while(|c| c.is_alphanumeric() || "/._-".contains(*c)).collect();
        let path = path.trim_end_matches('.').to_owned();
        let rest = source[at + path.len()..].strip_prefix(", ").unwrap_or_default();
        let rest = rest.strip_prefix("section ").unwrap_or(rest);
        let number: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '.').collect();
        let is_number = number.starts_with(|c: char| c.is_ascii_digit());
        (path, is_number.then(|| number.trim_end_matches('.').to_owned()))
    });
    found.filter(|(path, _)| path.ends_with(".md")).collect()
}

/// `4.13` is a row of a table, `4` a heading.
fn has_section(page: &str, number: &str) -> bool {
    page.contains(&format!("| {number} |")) || page.contains(&format!("## {number}."))
}

#[test]
fn cited_pages_and_sections_exist() {
    let mut broken = Vec::new();
    for path in
        files(&["src", "sql", "tests", "schema-maps", "benches"], &["rs", "sql", "json", "toml", "sh", "py"])
    {
        let own = path.ends_with("tests/repository/documentation.rs");
        let source = text(&path);
        for (page, number) in citations(&source).into_iter().filter(|_| !own) {
            let target = root().join(&page);
            let exists =
                target.exists() && number.as_ref().is_none_or(|number| has_section(&text(&target), number));
            if !exists {
                broken.push(format!("{}: {page} {}", path.display(), number.unwrap_or_default()));
            }
        }
        let outside = ["facts, section", "facts, trap", "facts/", "DESIGN"]
            .into_iter()
            .find(|word| !own && source.contains(word));
        broken.extend(
            outside
                .map(|word| format!("{}: cites \"{word}\", which is not in the repository", path.display())),
        );
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
