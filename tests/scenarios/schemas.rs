//! Every result with `--format json` matches its schema in `docs/schemas`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use jsonschema::{Resource, Validator};
use serde_json::Value;

/// Schemas by a field that only their result has, or none of those before.
const BY_FIELD: &[(&str, &str)] = &[
    ("nodes", "inspect"),
    ("not_checked", "plan"),
    ("totals", "migrate"),
    ("summary", "verify"),
    ("admin", "verify-since-run"),
    ("runs", "status"),
    ("removed", "cleanup"),
    ("kinds", "credentials-report"),
    ("rollback_command", "cutover-status"),
    ("writes", "cutover-plan"),
    ("remarks", "cutover-init"),
    ("outcome", "cutover-result"),
];

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schemas/{name}.schema.json"));
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn validators() -> &'static BTreeMap<&'static str, Validator> {
    static VALIDATORS: OnceLock<BTreeMap<&str, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let names = BY_FIELD.iter().map(|(_, name)| *name).chain(["error", "credentials-check"]);
        names.map(|name| (name, validator(name))).collect()
    })
}

fn validator(name: &str) -> Validator {
    let resource = |name: &str| {
        (format!("test:///{name}.schema.json"), Resource::from_contents(read(name)).expect("a schema"))
    };
    jsonschema::options()
        .with_base_uri(format!("test:///{name}.schema.json"))
        .with_resources(["common", "cutover-status"].into_iter().map(resource))
        .build(&read(name))
        .unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Fails unless a result matches the schema of its command.
#[track_caller]
pub fn check(result: &Value) {
    let by_field = || BY_FIELD.iter().find(|(field, _)| result.get(field).is_some()).map(|(_, name)| *name);
    let name = match result {
        Value::Array(_) => Some("credentials-check"),
        _ if result["outcome"] == "error" => Some("error"),
        _ => by_field(),
    };
    let name = name.unwrap_or_else(|| panic!("no schema for {result:#}"));
    let errors: Vec<String> = validators()[name]
        .iter_errors(result)
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "docs/schemas/{name}.schema.json: {errors:#?} in {result:#}");
}
