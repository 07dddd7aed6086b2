#!/usr/bin/env python3
"""Loads sql/kong/*.sql into a real PostgreSQL and compares what stands there with the catalogs, field by field.

Each line is loaded twice, into schema public of a fresh database and into another schema; then the triggers are tried.
Needs psql, and a server on which a database may be created, named by PGHOST, PGPORT, PGUSER …:

    PGHOST=127.0.0.1 PGPORT=54391 PGUSER=postgres python3 sql/kong/check.py

Exit code 0: everything is equal; 1: the differences are printed.
"""

import json
import subprocess
import sys

sys.dont_write_bytecode = True
from generate import FIXTURES, HERE, LINES, WORKSPACE_ID, WORKSPACE_PLACEHOLDER, read

DATABASE = "kongferry_sql_check"

# The catalog of a schema in the form of tests/fixtures/catalog/LINE/postgres.json.
CATALOG = r"""
with tables as (
    select c.oid, c.relname from pg_class c
     where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
)
select coalesce(json_object_agg(t.relname, json_build_object(
    'columns', (
        select coalesce(json_agg(json_build_object(
                   'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
                   'default', pg_get_expr(d.adbin, d.adrelid)) order by a.attnum), '[]')
          from pg_attribute a left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
         where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped),
    'primary_key', (
        select coalesce(json_agg(a.attname order by k.n), '[]')
          from pg_constraint c, unnest(c.conkey) with ordinality k (attnum, n), pg_attribute a
         where c.conrelid = t.oid and c.contype = 'p' and (a.attrelid, a.attnum) = (t.oid, k.attnum)),
    'uniques', (
        select coalesce(json_agg(u.names), '[]')
          from (select (select json_agg(a.attname order by k.n)
                          from unnest(c.conkey) with ordinality k (attnum, n), pg_attribute a
                         where (a.attrelid, a.attnum) = (t.oid, k.attnum)) as names
                  from pg_constraint c where c.conrelid = t.oid and c.contype = 'u') u),
    'checks', (
        select coalesce(json_agg(pg_get_constraintdef(c.oid)), '[]')
          from pg_constraint c where c.conrelid = t.oid and c.contype = 'c'),
    'foreign_keys', (
        select coalesce(json_agg(json_build_object(
                   'name', c.conname, 'ref_table', r.relname,
                   'columns', (select json_agg(a.attname order by k.n)
                                 from unnest(c.conkey) with ordinality k (attnum, n), pg_attribute a
                                where (a.attrelid, a.attnum) = (c.conrelid, k.attnum)),
                   'ref_columns', (select json_agg(a.attname order by k.n)
                                     from unnest(c.confkey) with ordinality k (attnum, n), pg_attribute a
                                    where (a.attrelid, a.attnum) = (c.confrelid, k.attnum)),
                   'on_delete', case c.confdeltype when 'a' then 'no action' when 'r' then 'restrict'
                                     when 'c' then 'cascade' when 'n' then 'set null' else 'set default' end)
                   order by c.conname), '[]')
          from pg_constraint c join pg_class r on r.oid = c.confrelid
         where c.conrelid = t.oid and c.contype = 'f'),
    'indexes', (
        select coalesce(json_agg(json_build_object('name', i.relname, 'def', pg_get_indexdef(i.oid))
                   order by i.relname collate "C"), '[]')
          from pg_index x join pg_class i on i.oid = x.indexrelid where x.indrelid = t.oid),
    'triggers', (
        select coalesce(json_agg(json_build_object('name', g.tgname, 'def', pg_get_triggerdef(g.oid))
                   order by g.tgname collate "C"), '[]')
          from pg_trigger g where g.tgrelid = t.oid and not g.tgisinternal)
)), '{}') from tables t
"""

# Tried in every line: the row in tags follows the entity.
TAGS = """
insert into workspaces (id, name) values ('00000000-0000-4000-8000-000000000001', 'ws');
insert into consumers (id, username, tags) values
    ('00000000-0000-4000-8000-00000000000a', 'a', '{x,y}'), ('00000000-0000-4000-8000-00000000000b', 'b', null);
select 'inserted', json_agg(t order by entity_id) from tags t;
update consumers set tags = '{z}' where username = 'a';
select 'updated', json_agg(t order by entity_id) from tags t;
delete from consumers where username = 'b';
select 'deleted', json_agg(t order by entity_id) from tags t;
"""
A = '{"entity_id":"00000000-0000-4000-8000-00000000000a","entity_name":"consumers","tags":%s}'
B = '{"entity_id":"00000000-0000-4000-8000-00000000000b","entity_name":"consumers","tags":null}'
TAGS_EXPECTED = [
    "inserted|[" + A % '["x","y"]' + ", \n " + B + "]",
    "updated|[" + A % '["z"]' + ", \n " + B + "]",
    "deleted|[" + A % '["z"]' + "]",
]

# Tried where the line has the trigger (3.3): two expired rows go with each statement that inserts, oldest first.
EXPIRY = """
set timezone = 'UTC';
insert into acme_storage (id, key, ttl)
select gen_random_uuid(), n || ' hours ago', now() - n * interval '1 hour' from generate_series(1, 3) n;
select 'after three expired', json_agg(key) from acme_storage;
insert into acme_storage (id, key, ttl) values (gen_random_uuid(), 'for ever', null), (gen_random_uuid(), 'live', now() + interval '1 hour');
select 'after two live', json_agg(key order by key) from acme_storage;
set timezone = 'America/New_York';
insert into acme_storage (id, key) values (gen_random_uuid(), 'another');
select 'outside UTC', json_agg(key order by key) from acme_storage;
set timezone = 'UTC';
insert into cluster_events (id, node_id, at, channel, expire_at)
select gen_random_uuid(), gen_random_uuid(), now(), n::text, now() - n * interval '1 hour' from generate_series(1, 3) n;
select 'events', json_agg(channel) from cluster_events;
"""
EXPIRY_EXPECTED = [
    'after three expired|["1 hours ago"]',
    'after two live|["for ever", "live"]',
    'outside UTC|["another", "for ever"]',
    'events|["1"]',
]


def psql(sql, database=DATABASE, schema=None):
    path = f"set search_path = {schema};\n" if schema else ""
    command = ["psql", "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
    done = subprocess.run(command, input=path + sql, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"psql: {done.stderr}")
    return done.stdout.strip()


def expected(line, schema):
    text = (FIXTURES / "catalog" / line / "postgres.json").read_text()
    catalog = json.loads(text.replace(WORKSPACE_PLACEHOLDER, WORKSPACE_ID))
    for table in catalog.values():
        table["uniques"].sort()
        for kind in ("indexes", "triggers"):
            table[kind].sort(key=lambda entry: entry["name"])
            for entry in table[kind]:
                entry["def"] = entry["def"].replace(" ON public.", f" ON {schema}.")
        table["foreign_keys"].sort(key=lambda entry: entry["name"])
    return catalog


def differences(path, want, got):
    if isinstance(want, dict) and isinstance(got, dict):
        for key in sorted(want.keys() | got.keys()):
            yield from differences(f"{path}.{key}", want.get(key), got.get(key))
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for number, (one, other) in enumerate(zip(want, got)):
            yield from differences(f"{path}[{number}]", one, other)
    elif want != got:
        yield f"{path}: catalog {want!r}, loaded {got!r}"


def files(line):
    """The files of a line, of open-source Kong or Enterprise, in the order in which they are loaded."""
    own = line.removeprefix("enterprise-")
    return [own] if own == line else [own, "enterprise", line]


def metas(line):
    """The names in schema_meta, by subsystem."""
    own = line.removeprefix("enterprise-")
    if own != line:
        return read("schema_meta-enterprise.json")[own]
    return {name: meta["executed"] for name, meta in read("schema_meta.json")["versions"][LINES[line]].items()}


def check(line, schema):
    psql(f"drop database if exists {DATABASE}", "postgres")
    psql(f"create database {DATABASE} template template0", "postgres")
    if schema != "public":
        psql(f"create schema {schema}")
    definition = "".join((HERE / f"{file}.sql").read_text() for file in files(line))
    psql(definition, schema=schema)

    got = json.loads(psql(CATALOG, schema=schema))
    for table in got.values():
        table["uniques"].sort()
        table["foreign_keys"].sort(key=lambda entry: entry["name"])
    wrong = list(differences(line, expected(line, schema), got))

    behaviour = [(TAGS, TAGS_EXPECTED)]
    if "batch_delete_expired_rows" in definition:
        behaviour.append((EXPIRY, EXPIRY_EXPECTED))
    for sql, want in behaviour:
        seen = psql(sql, schema=schema)
        if seen != "\n".join(want):
            wrong.append(f"{line}: triggers: expected {want}, seen {seen}")

    for file in files(line):
        meta = HERE / "schema_meta" / f"{file}.sql"
        if meta.exists():
            psql(meta.read_text(), schema=schema)
    rows = psql("select subsystem, last_executed, executed, coalesce(pending, '{}') from schema_meta", schema=schema)
    want = [f"{name}|{executed[-1]}|{{{','.join(executed)}}}|{{}}" for name, executed in metas(line).items()]
    if sorted(rows.splitlines()) != sorted(want):
        wrong.append(f"{line}: schema_meta: expected {want}, seen {rows}")

    columns = sum(len(t["columns"]) for t in got.values())
    print(f"{line:<15} in schema {schema:<10} {len(got)} tables, {columns} columns: {'DIFFERENT' if wrong else 'equal'}")
    return wrong


def main():
    wrong = [w for line in [*LINES, *(f"enterprise-{line}" for line in LINES)] for schema in ("public", "kong_other") for w in check(line, schema)]
    psql(f"drop database if exists {DATABASE}", "postgres")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
