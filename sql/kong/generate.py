#!/usr/bin/env python3
"""Writes sql/kong/*.sql and sql/kong/schema_meta/*.sql: the tables of Kong on PostgreSQL, per line of versions.

Source: the catalogs that Kong's own bootstrap left on a real PostgreSQL 15, tests/fixtures/catalog/LINE/postgres.json,
and the records of migrations, tests/fixtures/schema_meta.json. Nothing here is copied from Kong's migrations; the two
trigger functions are our own, written from what Kong's were seen to do.

Run it from anywhere: python3 sql/kong/generate.py. Then sql/kong/check.py compares the result with the catalogs.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "tests" / "fixtures"

# Line of versions → the release that was bootstrapped to read its catalog; None: modelled, never observed.
LINES = {"2.8": "2.8.5", "3.0": "3.0.2", "3.1": "3.1.1", "3.2": "3.2.2", "3.3": "3.3.1", "enterprise-2.8": None}

# Enterprise writes the id of the default workspace, random for each database, into the defaults of ws_id. The catalog
# has a placeholder there; this is the id in tests/fixtures of a modelled, freshly bootstrapped green.
WORKSPACE_PLACEHOLDER = "<default-workspace-id>"
WORKSPACE_ID = "77840cb0-09d5-4821-855b-428aa04bcd1c"

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


def default(expression):
    if WORKSPACE_PLACEHOLDER in expression:
        return expression.replace(WORKSPACE_PLACEHOLDER, WORKSPACE_ID), " -- the default workspace"
    return expression, ""


def create_table(name, table):
    columns = table["columns"]
    widest = max(len(quote(c["name"])) for c in columns)
    lines = []  # (text, comment)
    for column in columns:
        text = f"    {quote(column['name']):<{widest}} {column['type']}"
        comment = ""
        if column["not_null"]:
            text += " NOT NULL"
        if column["default"] is not None:
            expression, comment = default(column["default"])
            text += f" DEFAULT {expression}"
        lines.append((text, comment))
    owned = constraints(name, table)
    lines += [(f"    CONSTRAINT {quote(index)} {clause}", "") for index, clause in owned]
    if table["checks"]:
        raise SystemExit(f"{name}: check constraints are not handled")
    out = [f"CREATE TABLE {quote(name)} ("]
    for number, (text, comment) in enumerate(lines):
        out.append(text + ("," if number + 1 < len(lines) else "") + comment)
    out.append(");")
    of_constraints = {index for index, _ in owned}
    out += [unqualified(i["def"]) + ";" for i in table["indexes"] if i["name"] not in of_constraints]
    return "\n".join(out) + "\n"


def foreign_keys(name, table):
    for key in table["foreign_keys"]:
        clause = f"FOREIGN KEY ({names(key['columns'])}) REFERENCES {quote(key['ref_table'])} ({names(key['ref_columns'])})"
        if key["on_delete"] != "no action":
            clause += f" ON DELETE {key['on_delete'].upper()}"
        yield f"ALTER TABLE {quote(name)} ADD CONSTRAINT {quote(key['name'])}\n    {clause};\n"


def header(line, release):
    if release is None:
        origin = (
            "-- The tables of Kong Enterprise 2.8 on PostgreSQL, MODELLED from published facts, not observed on a server.\n"
            f"-- ws_id defaults to {WORKSPACE_ID}: the default workspace that this green's bootstrap is\n"
            "-- taken to have made. On a real server the id is random.\n"
        )
    else:
        origin = f"-- The tables that the bootstrap of Kong {line} (seen with {release}) leaves on PostgreSQL: no rows.\n"
    return (
        origin
        + f"-- Generated by sql/kong/generate.py from tests/fixtures/catalog/{line}/postgres.json. Do not edit.\n"
        + "-- No schema is named: load it with search_path set to one empty schema.\n"
    )


def schema(line, release, catalog):
    functions = {re.search(r"EXECUTE FUNCTION (\w+)\(", t["def"])[1] for c in catalog.values() for t in c["triggers"]}
    known = {"sync_tags": SYNC_TAGS, "batch_delete_expired_rows": BATCH_DELETE}
    parts = [header(line, release), "-- Functions of the triggers\n"]
    parts += [known[f] for f in sorted(functions, reverse=True)]
    parts.append("-- Tables and their indexes\n")
    parts += [create_table(name, table) for name, table in sorted(catalog.items())]
    parts.append("-- Foreign keys\n")
    parts += ["".join(foreign_keys(name, table)) for name, table in sorted(catalog.items()) if table["foreign_keys"]]
    parts.append("-- Triggers\n")
    parts += [
        "".join(unqualified(t["def"]).replace(" FOR EACH", "\n    FOR EACH") + ";\n" for t in table["triggers"])
        for _, table in sorted(catalog.items())
        if table["triggers"]
    ]
    return "\n".join(parts)


def schema_meta(line, release, subsystems):
    out = [
        f"-- What schema_meta holds after a finished bootstrap of Kong {line} with all bundled plugins (seen with {release}).\n"
        "-- Generated by sql/kong/generate.py from tests/fixtures/schema_meta.json. Do not edit.\n"
        "-- pending is {} where a migration was once pending, and null where none ever was: both mean finished.\n"
    ]
    for name, meta in sorted(subsystems.items()):
        pending = "'{}'" if meta["with_teardown"]["postgres"] else "NULL"
        out.append(
            "INSERT INTO schema_meta (key, subsystem, last_executed, executed, pending) VALUES (\n"
            f"    'schema_meta', {literal(name)}, {literal(meta['last_executed'])},\n"
            f"    {array(meta['executed'])},\n"
            f"    {pending}\n"
            ");\n"
        )
    return "\n".join(out)


def main():
    metas = json.loads((FIXTURES / "schema_meta.json").read_text())["versions"]
    for line, release in LINES.items():
        catalog = json.loads((FIXTURES / "catalog" / line / "postgres.json").read_text())
        (HERE / f"{line}.sql").write_text(schema(line, release, catalog))
        if release:
            (HERE / "schema_meta" / f"{line}.sql").write_text(schema_meta(line, release, metas[release]))


if __name__ == "__main__":
    main()
