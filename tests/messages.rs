//! What the program prints, by the writing rules (CONTRIBUTING.md): plain words, named actors, imperative remedies.
//!
//! Read are the help pages, the string literals of `src` outside of tests, and the strings of `sql` and `schema-maps`
//! that end up in messages. Sentences are judged as templates: what a placeholder becomes is not known here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::LazyLock;

use proc_macro2::{Delimiter, Group, Literal, TokenStream, TokenTree};
use regex::Regex;

/// Words that messages do not use, each with what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("somebody|someone|nobody|no one|anybody|anyone|everybody|everyone", "name the actor"),
    ("people|persons?|humans?", "name the actor: an operator, an Admin API client"),
    (r"mend(s|ed|ing)?", "repair"),
    ("aside", "rejected, moved"),
    ("by hand", "manually, an Admin API client, outside kongferry"),
    ("by halves|half a", "partly, incomplete"),
    ("still", "say what is the case: idle, not yet, again; or leave it out"),
    ("gone|gone on with", "deleted, removed, ended"),
    ("rooms?", "module"),
    (r"odd(ly|ity)?", "inconsistent"),
    ("in the way", "say what blocks what"),
    (r"look(s|ed|ing)? at", "check, read, compare"),
    (r"look(s|ed|ing)? for", "find, search"),
    (r"(stand|stands|stood) (on|in|at|there|beside|under|as|by)", "is, exists"),
    (r"puts? (on|off|back|right)", "defer, restore"),
    (r"(take|takes|taken|took) off", "drop, remove"),
    ("quick way", "bulk load"),
    ("so many|so much", "give the number"),
    (r"(give|gives|gave) way", "is replaced"),
    ("on trust", "accepted without proof"),
    ("bidding|poetry|riddle", "say it plainly"),
    (r"nowhere|somehow|somewhere", "name the place or the reason"),
];

/// Literals that have a banned word for a good reason, each with the reason.
const ALLOWED: &[(&str, &str)] = &[
    ("is still valid", "the help of credentials: valid before and after the migration"),
    (") is still referenced from table ", "a message of PostgreSQL's"),
    ("nobody", "the Unix user, and an old value in the JSON of cutover init"),
    ("neither a user postgres nor a user nobody", "the Unix user"),
];

/// A text that may end up in front of a user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Template {
    file: String,
    line: usize,
    text: String,
    role: Role,
}

/// What the template is used for, as far as the code around it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// The argument of `Error::remedy`.
    Remedy,
    /// The argument of `Error::usage` and `Error::refused`.
    Message,
    Other,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").display().to_string()
}

/// The string literals of a Rust file, without doc comments and items under `#[cfg(test)]`.
fn literals(file: &str, source: &str) -> Vec<Template> {
    let mut found = Vec::new();
    let tokens = TokenStream::from_str(source).unwrap_or_else(|e| panic!("{file}: {e}"));
    collect(file, tokens, Role::Other, &mut found);
    found
}

fn collect(file: &str, tokens: TokenStream, role: Role, found: &mut Vec<Template>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let is_inner =
                    matches!(tokens.get(at + 1), Some(TokenTree::Punct(mark)) if mark.as_char() == '!');
                let next = if is_inner { at + 2 } else { at + 1 };
                if let Some(TokenTree::Group(attribute)) = tokens.get(next) {
                    if is_test_only(attribute) {
                        at = end_of_item(&tokens, next + 1);
                    } else if is_documentation(attribute) {
                        at = next;
                    }
                }
            }
            TokenTree::Group(group) => {
                collect(file, group.stream(), role_of_arguments(&tokens, at, role), found);
            }
            TokenTree::Literal(literal) => {
                if let Some(text) = text_of(literal) {
                    let line = literal.span().start().line;
                    found.push(Template { file: file.to_owned(), line, text, role });
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
        at += 1;
    }
}

fn is_test_only(attribute: &Group) -> bool {
    attribute.delimiter() == Delimiter::Bracket
        && matches!(attribute.stream().to_string().replace(' ', "").as_str(), "cfg(test)" | "test")
}

fn is_documentation(attribute: &Group) -> bool {
    matches!(attribute.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}

/// The index of the last token of the item that begins at `at`.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    };
    let length = tokens.iter().skip(at).position(is_end);
    length.map_or(tokens.len(), |length| at + length)
}

/// What the literals directly in these parentheses are. The arguments of a `format!` in them keep the role.
fn role_of_arguments(tokens: &[TokenTree], at: usize, outer: Role) -> Role {
    let name = |back: usize| match at.checked_sub(back).and_then(|at| tokens.get(at)) {
        Some(TokenTree::Ident(name)) => name.to_string(),
        Some(TokenTree::Punct(mark)) => mark.as_char().to_string(),
        _ => String::new(),
    };
    match (name(1).as_str(), name(2).as_str()) {
        ("remedy", ".") => Role::Remedy,
        ("usage" | "refused", ":") => Role::Message,
        ("!", "format") if outer != Role::Other => outer,
        _ => Role::Other,
    }
}

/// The text of a string literal; `None` for bytes, numbers and characters.
fn text_of(literal: &Literal) -> Option<String> {
    let source = literal.to_string();
    if let Some(raw) = source.strip_prefix('r') {
        return Some(raw.trim_matches('#').trim_matches('"').to_owned());
    }
    let inner = source.strip_prefix('"')?.strip_suffix('"')?;
    static CONTINUED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\\n\s*").expect("a pattern"));
    let text = CONTINUED.replace_all(inner, "");
    Some(text.replace("\\n", "\n").replace("\\\"", "\"").replace("\\'", "'").replace("\\\\", "\\"))
}

/// The quoted strings of SQL files, without comments.
fn sql_strings(file: &str, source: &str) -> Vec<Template> {
    let quoted = Regex::new(r"'([^']*)'").expect("a pattern");
    let strings_of = |(at, line): (usize, &str)| {
        let code = line.split("--").next().unwrap_or_default().to_owned();
        let texts: Vec<String> = quoted.captures_iter(&code).map(|found| found[1].to_owned()).collect();
        texts.into_iter().map(move |text| (at + 1, text)).collect::<Vec<_>>()
    };
    let strings = source.lines().enumerate().flat_map(strings_of);
    strings.map(|(line, text)| Template { file: file.to_owned(), line, text, role: Role::Other }).collect()
}

/// The string values of a JSON file.
fn json_strings(file: &str, source: &str) -> Vec<Template> {
    fn add(value: &serde_json::Value, texts: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => texts.push(text.clone()),
            serde_json::Value::Array(values) => values.iter().for_each(|value| add(value, texts)),
            serde_json::Value::Object(values) => values.values().for_each(|value| add(value, texts)),
            _ => {}
        }
    }
    let mut texts = Vec::new();
    add(&serde_json::from_str(source).unwrap_or_else(|e| panic!("{file}: {e}")), &mut texts);
    texts
        .into_iter()
        .map(|text| Template { file: file.to_owned(), line: 0, text, role: Role::Other })
        .collect()
}

/// The lines of every help page, each once.
fn help_lines() -> Vec<Template> {
    fn page(command: &[&str]) -> String {
        let mut program = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
        let output = program.args(command).arg("--help").output().expect("the program");
        String::from_utf8(output.stdout).expect("text")
    }
    fn add(command: &[&str], lines: &mut BTreeSet<(String, String)>) {
        let text = page(command);
        for line in text.lines() {
            lines.insert((command.join(" "), line.trim().to_owned()));
        }
        let below = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in below.take_while(|line| !line.is_empty()) {
            match line.trim_start_matches(' ').split_once(' ') {
                Some((name, _)) if line.starts_with("  ") && !line.starts_with("   ") && name != "help" => {
                    add(&[command, &[name]].concat(), lines);
                }
                _ => {}
            }
        }
    }
    let mut lines = BTreeSet::new();
    add(&[], &mut lines);
    assert!(lines.len() > 300, "the help pages were not found");
    lines
        .into_iter()
        .map(|(command, text)| Template { file: format!("help {command}"), line: 0, text, role: Role::Other })
        .collect()
}

/// Everything that may be printed.
fn templates() -> Vec<Template> {
    let read = |path: &PathBuf| (relative(path), std::fs::read_to_string(path).expect("a text"));
    let mut found = help_lines();
    for path in
        files("src", "rs").iter().filter(|path| path.file_name().is_none_or(|name| name != "tests.rs"))
    {
        let (file, source) = read(path);
        found.extend(literals(&file, &source));
    }
    for (file, source) in files("sql", "sql").iter().map(read) {
        found.extend(sql_strings(&file, &source));
    }
    for (file, source) in files("schema-maps", "json").iter().map(read) {
        found.extend(json_strings(&file, &source));
    }
    found
}

fn fail_with(problems: &[(Template, String)]) {
    let lines: Vec<String> = problems
        .iter()
        .map(|(at, problem)| format!("{}:{}: {problem}: {:?}", at.file, at.line, at.text))
        .collect();
    assert!(lines.is_empty(), "{} lines:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn messages_use_none_of_the_banned_words() {
    let rules: Vec<(Regex, &str)> = BANNED
        .iter()
        .map(|(words, instead)| (Regex::new(&format!(r"(?i)\b({words})\b")).expect("a pattern"), *instead))
        .collect();
    let mut problems = Vec::new();
    for template in templates() {
        if ALLOWED.iter().any(|(text, _)| is_allowed(&template.text, text)) {
            continue;
        }
        for (rule, instead) in &rules {
            if let Some(word) = rule.find(&template.text) {
                problems.push((template.clone(), format!("\"{}\" ({instead})", word.as_str())));
            }
        }
    }
    fail_with(&problems);
}

/// A single word is allowed only alone.
fn is_allowed(text: &str, allowed: &str) -> bool {
    text == allowed || (allowed.contains(' ') && text.contains(allowed))
}

#[test]
fn remedies_are_sentences_and_messages_are_not() {
    let mut problems = Vec::new();
    for template in templates() {
        let text = template.text.trim();
        let begins_small = text.starts_with(|c: char| c.is_lowercase());
        let problem = match template.role {
            Role::Remedy if begins_small => Some("a remedy begins with a capital letter"),
            Role::Remedy if !text.ends_with(['.', '}', '"']) => Some("a remedy ends with a full stop"),
            Role::Message if text.ends_with('.') => Some("a message ends without a full stop"),
            _ if text.ends_with("..") && !text.ends_with("...") => Some("two full stops"),
            _ => None,
        };
        problems.extend(problem.map(|problem| (template.clone(), problem.to_owned())));
    }
    fail_with(&problems);
}

#[test]
fn every_exception_is_needed() {
    let texts = templates();
    for (text, reason) in ALLOWED {
        assert!(
            texts.iter().any(|template| template.text.contains(text)),
            "{text:?} ({reason}) is not printed"
        );
    }
}

#[test]
fn literals_are_found_in_code_and_not_in_tests_or_comments() {
    let source = r##"
        #[cfg(test)]
        mod tests { const A: &str = "in a test"; }
        fn f() -> Error {
            // "not this"
            Error::usage(format!("cannot {x}")).remedy("Run it \
                again.").detail(r#"raw "text""#)
        }
        #[cfg(test)]
        const B: &str = "in a test";
        const C: &[u8] = b"bytes";
    "##;
    let found: Vec<(Role, String)> =
        literals("f", source).into_iter().map(|template| (template.role, template.text)).collect();
    assert_eq!(
        found,
        [
            (Role::Message, "cannot {x}".to_owned()),
            (Role::Remedy, "Run it again.".to_owned()),
            (Role::Other, "raw \"text".to_owned()),
        ]
    );
}
