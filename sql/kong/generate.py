#!/usr/bin/env python3
"""Writes sql/kong/*.sql and sql/kong/schema_meta/*.sql: the tables of Kong on PostgreSQL, per line of versions.

Source: catalogs read from a real PostgreSQL 15, tests/fixtures/catalog/LINE/postgres.json, and the records of
migrations, tests/fixtures/schema_meta*.json. Nothing here is copied from Kong's migrations; the two trigger functions
are our own, written from what Kong's were seen to do.

Enterprise's files are loaded after the open-source file of the same line: enterprise.sql holds the tables that are the
same in all of its lines, enterprise-LINE.sql the other tables and the columns that Enterprise adds to open-source ones.

Run it from anywhere: python3 sql/kong/generate.py. Then sql/kong/check.py compares the result with the catalogs.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "tests" / "fixtures"

# Line of versions → the release of open-source Kong that was bootstrapped to read its catalog.
LINES = {"2.8": "2.8.5", "3.0": "3.0.2", "3.1": "3.1.1", "3.2": "3.2.2", "3.3": "3.3.1"}

# Enterprise writes the id of the default workspace, random for each database, into the defaults of ws_id. The catalog
# has a placeholder there, the SQL the nil UUID.
WORKSPACE_PLACEHOLDER = "<default-workspace-id>"
WORKSPACE_ID = "00000000-0000-0000-0000-000000000000"

# Reserved words of PostgreSQL 15: as a name they need quotes.
RESERVED = set(
    """all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric table tablesample then to trailing true union unique
    user using variadic verbose when where window with""".split()
)

SYNC_TAGS = """\
-- Keeps one row in tags for each entity, also for an entity without tags. Fired per row by the tables below.
-- Like Kong's, it names tags without a schema: search_path decides whose tags it writes.
CREATE FUNCTION sync_tags() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM tags WHERE tags.entity_id = OLD.id;
    ELSE
        INSERT INTO tags (entity_id, entity_name, tags)
        VALUES (NEW.id, TG_TABLE_NAME, NEW.tags)
        ON CONFLICT (entity_id) DO UPDATE SET tags = excluded.tags;
    END IF;
    RETURN NULL; -- ignored: the triggers are AFTER triggers
END
$$;
"""

BATCH_DELETE = """\
-- Deletes up to two expired rows of the table that fired it; its argument names the column with the expiry.
-- Like Kong's, it compares with the time of day in UTC read in the session's zone (so a session that is not in UTC
-- deletes live rows), and names the table without a schema.
CREATE FUNCTION batch_delete_expired_rows() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format(
        'DELETE FROM %1$I AS t
          USING (SELECT ctid
                   FROM %1$I
                  WHERE %2$I < CURRENT_TIMESTAMP AT TIME ZONE ''UTC''
                  ORDER BY %2$I
                  LIMIT 2
                    FOR UPDATE SKIP LOCKED) AS expired
          WHERE t.ctid = expired.ctid',
        TG_TABLE_NAME, TG_ARGV[0]);
    RETURN NULL; -- ignored: the triggers are AFTER triggers
END
$$;
"""


def quote(name):
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def literal(text):
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def array(values):
    return "ARRAY[" + ", ".join(literal(v) for v in values) + "]::text[]"


def names(columns):
    return ", ".join(quote(c) for c in columns)


def unqualified(definition):
    """The definition without the schema: search_path decides where it is created."""
    return re.sub(r" ON public\.", " ON ", definition, count=1)


def index_columns(definition):
    """The columns of a unique btree index, or None if it is anything else."""
    found = re.fullmatch(r"CREATE UNIQUE INDEX \S+ ON \S+ USING btree \((.*)\)", definition)
    return [c.strip().strip('"') for c in found[1].split(",")] if found else None


def constraints(name, table):
    """The constraints that own an index, as (index name, clause), and the names of these indexes.

    The catalog has the columns of each constraint without its name, and every index with its name; a constraint has
    the name of its index.
    """
    wanted = [("UNIQUE", columns) for columns in table["uniques"]]
    if table["primary_key"]:
        wanted.insert(0, ("PRIMARY KEY", table["primary_key"]))
    found = []
    for kind, columns in wanted:
        candidates = [
            i["name"]
            for i in table["indexes"]
            if index_columns(i["def"]) == columns and i["name"] not in [f[0] for f in found]
        ]
        if len(candidates) != 1:
            raise SystemExit(f"{name}: {kind} {columns} is served by {candidates}, not by exactly one index")
        found.append((candidates[0], f"{kind} ({names(columns)})"))
    return found


def column_clause(column, width=0):
    text = f"{quote(column['name']):<{width}} {column['type']}"
    if column["not_null"]:
        text += " NOT NULL"
    if column["default"] is not None:
        text += f" DEFAULT {column['default'].replace(WORKSPACE_PLACEHOLDER, WORKSPACE_ID)}"
    return text


def create_table(name, table):
    widest = max(len(quote(c["name"])) for c in table["columns"])
    owned = constraints(name, table)
    lines = [column_clause(column, widest) for column in table["columns"]]
    lines += [f"CONSTRAINT {quote(index)} {clause}" for index, clause in owned]
    if table["checks"]:
        raise SystemExit(f"{name}: check constraints are not handled")
    out = [f"CREATE TABLE {quote(name)} (", ",\n".join("    " + line for line in lines), ");"]
    of_constraints = {index for index, _ in owned}
    out += [unqualified(i["def"]) + ";" for i in table["indexes"] if i["name"] not in of_constraints]
    return "\n".join(out) + "\n"


def add_columns(name, base, table):
    """The columns and indexes that a table of open-source Kong has on Enterprise besides its own."""
    added = table["columns"][len(base["columns"]) :]
    indexes = [i for i in table["indexes"] if i not in base["indexes"]]
    if {**base, "columns": base["columns"] + added, "indexes": table["indexes"]} != table:
        raise SystemExit(f"{name}: Enterprise has more than other columns and indexes there")
    clauses = ",\n".join(f"    ADD COLUMN {column_clause(column)}" for column in added)
    return f"ALTER TABLE {quote(name)}\n{clauses};\n" + "".join(unqualified(i["def"]) + ";\n" for i in indexes)


def foreign_keys(name, table):
    for key in table["foreign_keys"]:
        clause = f"FOREIGN KEY ({names(key['columns'])}) REFERENCES {quote(key['ref_table'])} ({names(key['ref_columns'])})"
        if key["on_delete"] != "no action":
            clause += f" ON DELETE {key['on_delete'].upper()}"
        yield f"ALTER TABLE {quote(name)} ADD CONSTRAINT {quote(key['name'])}\n    {clause};\n"


def triggers(table):
    return "".join(unqualified(t["def"]).replace(" FOR EACH", "\n    FOR EACH") + ";\n" for t in table["triggers"])


def schema(introduction, catalog, added="", keys=(), known=""):
    """One file: these tables, what is added to others, the foreign keys of more tables; functions that are `known` exist."""
    functions = {re.search(r"EXECUTE FUNCTION (\w+)\(", t["def"])[1] for c in catalog.values() for t in c["triggers"]}
    bodies = {"sync_tags": SYNC_TAGS, "batch_delete_expired_rows": BATCH_DELETE}
    sections = {
        "Functions of the triggers": [bodies[f] for f in sorted(functions, reverse=True) if bodies[f] not in known],
        "Columns of open-source tables": [added] if added else [],
        "Tables and their indexes": [create_table(name, table) for name, table in sorted(catalog.items())],
        "Foreign keys": ["".join(foreign_keys(n, t)) for n, t in sorted({**catalog, **dict(keys)}.items()) if t["foreign_keys"]],
        "Triggers": [triggers(table) for _, table in sorted(catalog.items()) if table["triggers"]],
    }
    parts = [introduction]
    for title, texts in sections.items():
        parts += [f"-- {title}\n", *texts] if texts else []
    return "\n".join(parts)


def generated(source):
    return f"-- Generated by sql/kong/generate.py from tests/fixtures/{source}. Do not edit.\n"


def insert_meta(subsystem, executed, finished):
    pending = "'{}'" if finished else "NULL"
    return (
        "INSERT INTO schema_meta (key, subsystem, last_executed, executed, pending) VALUES (\n"
        f"    'schema_meta', {literal(subsystem)}, {literal(executed[-1])},\n    {array(executed)},\n    {pending}\n);\n"
    )


def schema_meta(line, release, subsystems):
    introduction = (
        f"-- What schema_meta holds after a finished bootstrap of Kong {line} with all bundled plugins (seen with {release}).\n"
        + generated("schema_meta.json")
        + "-- pending is {} where a migration was once pending, and null where none ever was: both mean finished.\n"
    )
    rows = [
        insert_meta(name, meta["executed"], meta["with_teardown"]["postgres"])
        for name, meta in sorted(subsystems.items())
    ]
    return "\n".join([introduction, *rows])


def enterprise_meta(line, subsystems, base):
    introduction = (
        f"-- What schema_meta holds on Kong Enterprise {line} besides, or instead of, the rows of open-source Kong {line}.\n"
        + generated("schema_meta-enterprise.json")
    )
    own = {n: executed for n, executed in sorted(subsystems.items()) if executed != base.get(n, {}).get("executed")}
    replaced = "".join(f"DELETE FROM schema_meta WHERE subsystem = {literal(n)};\n" for n in own if n in base)
    return "\n".join([introduction, replaced, *(insert_meta(n, executed, False) for n, executed in own.items())])


def read(path):
    return json.loads((FIXTURES / path).read_text())


def catalog(line):
    return read(f"catalog/{line}/postgres.json")


def enterprise():
    """Writes the files of Enterprise."""
    releases, metas = read("schema_meta.json")["versions"], read("schema_meta-enterprise.json")
    base = {line: catalog(line) for line in LINES}
    whole = {line: catalog(f"enterprise-{line}") for line in LINES}
    own = {line: {n: t for n, t in whole[line].items() if n not in base[line]} for line in LINES}
    first, *others = own.values()
    shared = {name: table for name, table in first.items() if all(table == other.get(name) for other in others)}
    # A foreign key can be made where the table that it refers to stands.
    here = shared.keys() | base["2.8"].keys()
    within = {n: {**t, "foreign_keys": [k for k in t["foreign_keys"] if k["ref_table"] in here]} for n, t in shared.items()}
    beyond = {n: {**t, "foreign_keys": [k for k in t["foreign_keys"] if k["ref_table"] not in here]} for n, t in shared.items()}
    nil = "-- ws_id defaults to the nil UUID: it stands for the id of the default workspace, which a bootstrap draws at random.\n"
    introduction = (
        "-- The tables that all lines of Kong Enterprise, 2.8 to 3.3, have on PostgreSQL besides open-source Kong's: no rows.\n"
        "-- Load it after LINE.sql and before enterprise-LINE.sql, with the same search_path.\n"
        + nil
        + generated("catalog/enterprise-*/postgres.json")
    )
    (HERE / "enterprise.sql").write_text(schema(introduction, within, known=SYNC_TAGS))
    for line, release in LINES.items():
        changed = {n: t for n, t in base[line].items() if t != whole[line][n]}
        added = "\n".join(add_columns(n, t, whole[line][n]) for n, t in sorted(changed.items()))
        introduction = (
            f"-- What Kong Enterprise {line} has on PostgreSQL besides {line}.sql and enterprise.sql: no rows.\n"
            "-- Load it after them, with the same search_path.\n"
            + nil
            + generated(f"catalog/enterprise-{line}/postgres.json")
        )
        tables = {n: t for n, t in own[line].items() if n not in shared}
        known = (HERE / f"{line}.sql").read_text()
        text = schema(introduction, tables, added, beyond.items(), known)
        (HERE / f"enterprise-{line}.sql").write_text(text)
        (HERE / "schema_meta" / f"enterprise-{line}.sql").write_text(enterprise_meta(line, metas[line], releases[release]))


def main():
    metas = read("schema_meta.json")["versions"]
    for line, release in LINES.items():
        introduction = (
            f"-- The tables that the bootstrap of Kong {line} (seen with {release}) leaves on PostgreSQL: no rows.\n"
            + generated(f"catalog/{line}/postgres.json")
            + "-- No schema is named: load it with search_path set to one empty schema.\n"
        )
        (HERE / f"{line}.sql").write_text(schema(introduction, catalog(line)))
        (HERE / "schema_meta" / f"{line}.sql").write_text(schema_meta(line, release, metas[release]))
    enterprise()


if __name__ == "__main__":
    main()
