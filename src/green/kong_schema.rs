//! The schemas that Kong's own bootstrap leaves, and its record of migrations, for a plan before green exists.

/// Line of open-source Kong, its tables, its `schema_meta`.
const OPEN_SOURCE: &[(&str, &str, &str)] = &[
    ("2.8", include_str!("../../sql/kong/2.8.sql"), include_str!("../../sql/kong/schema_meta/2.8.sql")),
    ("3.0", include_str!("../../sql/kong/3.0.sql"), include_str!("../../sql/kong/schema_meta/3.0.sql")),
    ("3.1", include_str!("../../sql/kong/3.1.sql"), include_str!("../../sql/kong/schema_meta/3.1.sql")),
    ("3.2", include_str!("../../sql/kong/3.2.sql"), include_str!("../../sql/kong/schema_meta/3.2.sql")),
    ("3.3", include_str!("../../sql/kong/3.3.sql"), include_str!("../../sql/kong/schema_meta/3.3.sql")),
];

/// What Enterprise of the same line has besides, and the record of its migrations.
const ENTERPRISE: &[(&str, &str, &str)] = &[
    (
        "2.8",
        include_str!("../../sql/kong/enterprise-2.8.sql"),
        include_str!("../../sql/kong/schema_meta/enterprise-2.8.sql"),
    ),
    (
        "3.0",
        include_str!("../../sql/kong/enterprise-3.0.sql"),
        include_str!("../../sql/kong/schema_meta/enterprise-3.0.sql"),
    ),
    (
        "3.1",
        include_str!("../../sql/kong/enterprise-3.1.sql"),
        include_str!("../../sql/kong/schema_meta/enterprise-3.1.sql"),
    ),
    (
        "3.2",
        include_str!("../../sql/kong/enterprise-3.2.sql"),
        include_str!("../../sql/kong/schema_meta/enterprise-3.2.sql"),
    ),
    (
        "3.3",
        include_str!("../../sql/kong/enterprise-3.3.sql"),
        include_str!("../../sql/kong/schema_meta/enterprise-3.3.sql"),
    ),
];

/// The tables that every line of Enterprise has.
const SHARED: &str = include_str!("../../sql/kong/enterprise.sql");

/// The statements that create the tables and the rows of `schema_meta` in an empty schema, or `None` for a line that is not
/// built in.
pub fn statements(line: &str, enterprise: bool) -> Option<String> {
    let find = |lines: &[(&str, &'static str, &'static str)]| {
        lines.iter().find(|(own, ..)| *own == line).map(|(_, tables, meta)| (*tables, *meta))
    };
    let (tables, meta) = find(OPEN_SOURCE)?;
    if !enterprise {
        return Some([tables, meta].concat());
    }
    let (own_tables, own_meta) = find(ENTERPRISE)?;
    Some([tables, SHARED, own_tables, meta, own_meta].concat())
}
