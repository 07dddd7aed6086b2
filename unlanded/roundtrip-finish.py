"""Run in the root of the repository, after unlanded/roundtrip.patch: the last edits, which came after that patch was cut.

Not compiled and not run together yet: `plan --scratch` empties the given database, docs/report.schema.json, three tests mended.
"""
import json, os

def sub(path, old, new):
    text = open(path).read()
    assert old in text, (path, old[:70])
    open(path, 'w').write(text.replace(old, new, 1))

def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, 'w').write(text)

write('sql/scratch/made_before.sql', '''-- What the scratch database has before a rehearsal: it stays.
select coalesce(array_agg(o.oid::bigint), '{}')
from (
  select oid from pg_namespace
  union all select oid from pg_extension
  union all select oid from pg_class
  union all select oid from pg_proc
  union all select oid from pg_type
) o
''')
write('sql/scratch/remove.sql', '''-- The statements that remove what a rehearsal made in the scratch database, in their order; $1 is what was there before.
-- Each takes along what hangs on it, so that later ones may find nothing left to do.
with made as (
  select 1 as position, n.oid, format('drop schema if exists %I cascade', n.nspname) as statement
  from pg_namespace n
  where n.nspname !~ '^pg_'
  union all
  select 2, e.oid, format('drop extension if exists %I cascade', e.extname)
  from pg_extension e
  union all
  select
    case c.relkind when 'S' then 4 else 3 end,
    c.oid,
    format(
      'drop %s if exists %I.%I cascade',
      case c.relkind
        when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table'
        when 'c' then 'type' else 'table'
      end,
      n.nspname, c.relname
    )
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')
    and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  union all
  select 5, p.oid, format('drop routine if exists %s cascade', p.oid::regprocedure)
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  union all
  select 6, t.oid, format('drop type if exists %I.%I cascade', n.nspname, t.typname)
  from pg_type t
  join pg_namespace n on n.oid = t.typnamespace
  where t.typtype in ('e', 'd', 'r', 'b') and t.typelem = 0
    and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
)
select statement
from made
where oid::bigint <> all ($1)
order by position, oid
''')

p = 'src/rehearsal.rs'
sub(p, '''            must_be_empty(config).await?;
            let schema = green.map_or("public", Green::kong_schema);
            let config = config.as_ref().clone().with_schemas(schema, WORK_SCHEMA)?.without_schema_check();
            let not_checked = build(&blue, green, rehearsal, &config).await?;
            rehearse(blue, green, rehearsal, &config, not_checked, observer).await
''', '''            let before = must_be_empty(config).await?;
            let result = Box::pin(in_given(blue, green, rehearsal, config, observer)).await;
            let emptied = empty(config, &before).await;
            match (result, emptied) {
                (Ok(report), Err(error)) => {
                    tracing::warn!("{error}: copies of Kong's rows are left in it.");
                    Ok(report)
                }
                (result, _) => result,
            }
''')
sub(p, 'async fn in_own(\n', '''async fn in_given(
    blue: Arc<Blue>,
    green: Option<&Green>,
    rehearsal: &Rehearsal,
    config: &GreenConfig,
    observer: Arc<dyn Observer>,
) -> Result<PlanReport> {
    let schema = green.map_or("public", Green::kong_schema);
    let config = config.clone().with_schemas(schema, WORK_SCHEMA)?.without_schema_check();
    let not_checked = build(&blue, green, rehearsal, &config).await?;
    rehearse(blue, green, rehearsal, &config, not_checked, observer).await
}

async fn in_own(
''')
text = open(p).read()
start = text.index('/// A database that somebody gave for the rehearsal must')
end = text.index("/// Builds Kong's schema on the scratch server; gives", start)
open(p, 'w').write(text[:start] + '''/// A database that somebody gave for the rehearsal must have nothing in it that could be lost. Says what it has all the
/// same, such as extensions.
async fn must_be_empty(config: &GreenConfig) -> Result<Vec<i64>> {
    let scratch = Green::connect(&config.clone().without_schema_check(), "kongferry scratch").await?;
    let what = "cannot look into the scratch database";
    let mut tx = scratch.begin_snapshot().await?;
    let relations: i64 = query_scalar(include_str!("../sql/inspect/relations.sql"))
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| scratch.explain(e, what))?;
    let before = query_scalar(include_str!("../sql/scratch/made_before.sql"))
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| scratch.explain(e, what))?;
    tx.rollback().await.map_err(|e| scratch.explain(e, what))?;
    scratch.close().await;
    if relations > 0 {
        return Err(Error::usage("the scratch database is not empty, and a rehearsal writes to it").remedy(
            "Give --scratch an empty database, or leave it out: then plan starts a PostgreSQL of its own.",
        ));
    }
    Ok(before)
}

/// Removes from a given database all that the rehearsal made: there were credentials in it.
async fn empty(config: &GreenConfig, before: &[i64]) -> Result<()> {
    let scratch = Green::connect(&config.clone().without_schema_check(), "kongferry scratch").await?;
    let what = "the scratch database could not be emptied";
    let mut tx = scratch.begin().await?;
    let statements: Vec<String> = query_scalar(include_str!("../sql/scratch/remove.sql"))
        .bind(before)
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| scratch.explain(e, what))?;
    for statement in statements {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await;
        done.map_err(|e| scratch.explain(e, what))?;
    }
    tx.commit().await.map_err(|e| scratch.explain(e, what))?;
    scratch.close().await;
    Ok(())
}

''' + text[end:])
sub(p, 'use crate::green::sql::{fill, literal};\n', 'use crate::green::sql::{fill, literal};\nuse crate::green::statement::query_scalar;\n')
sub('docs/plan.md', '  empty database of yours instead.\n', '  empty database of yours instead, and empties it again; after an interruption that is left to you.\n')
sub('docs/migrate.md', 'On stdout: `format` (1),', 'The schema is [report.schema.json](report.schema.json). On stdout: `format` (1),')

# Tests: a set inside a map stands in Cassandra's order; the sentence about our schema has changed.
sub('tests/scenarios/roundtrip.rs', '''        CqlValue::List(items) | CqlValue::Set(items) => {
            format!("[{}]", joined(items.iter().map(as_json).collect()))
        }
''', '''        CqlValue::List(items) => format!("[{}]", joined(items.iter().map(as_json).collect())),
        CqlValue::Set(items) => {
            let mut items = items.clone();
            items.sort_by(|one, other| one.as_text().cmp(&other.as_text()));
            format!("[{}]", joined(items.iter().map(as_json).collect()))
        }
''')
sub('tests/scenarios/refusals.rs', '"may not make the schema \\"kongferry\\""', '"may not make or use the schema \\"kongferry\\""')

# A table without columns that must have a value.
p = 'tests/scenarios/refusals.rs'
sub(p, 'let route = json!({ "id": CONSUMER, "name": "by hand" });', 'let certificate = json!({ "id": CONSUMER, "cert": "by hand" });')
sub(p, 'green.insert("upstreams", &route).await.expect("an upstream");', 'green.insert("certificates", &certificate).await.expect("a certificate");')
sub(p, '"upstreams: has rows; blue', '"certificates: has rows; blue')
sub(p, '"--skip-table", "upstreams"', '"--skip-table", "certificates"')

# docs/report.schema.json
string, number, boolean = {'type': 'string'}, {'type': 'number'}, {'type': 'boolean'}
maybe = {'type': ['string', 'null']}
ref = lambda name: {'$ref': '#/$defs/' + name}
many = lambda item, what=None: {**({'description': what} if what else {}), 'type': 'array', 'items': item}
def closed(properties, what=None):
    return {**({'description': what} if what else {}), 'type': 'object', 'properties': properties,
            'required': list(properties), 'additionalProperties': False}
counts = ['source', 'applied', 'repaired', 'rejected', 'expired', 'not_copied']
report = {
    'format': {'description': 'Version of this structure.', 'const': 1},
    'run': {'description': "The run's id, as in the journal on green.", 'type': 'string'},
    'outcome': string,
    'refusal': {'anyOf': [{'type': 'null'}, ref('refusal')]},
    'kong': {'description': 'The line of Kong versions, such as 3.3.', 'type': 'string'},
    'kongferry': {'description': 'The version of the program.', 'type': 'string'},
    'blue': ref('side'),
    'green': {'description': 'Empty texts in a plan without green.', **ref('side')},
    'totals': {**ref('counts'), 'unevaluatedProperties': False},
    'tables': many(ref('table'), 'Every table of blue.'),
    'rejects': many(ref('group'), 'Rows set aside, per table and reason.'),
    'repairs': many(ref('group'), 'Values mended, per table, column and way.'),
    'notes': many(ref('group'), 'What was copied and is worth a look.'),
    'rejects_file': maybe,
    'warnings': many(ref('finding')),
    'seconds': ref('seconds'),
    'next': many(string, 'What to do next, in order, for people.'),
}
schema = {
    '$schema': 'https://json-schema.org/draft/2020-12/schema',
    'title': 'What plan and migrate print with --format json',
    'description': 'Stable: fields are added, never renamed or removed, unless `format` changes. '
                   'docs/migrate.md and docs/plan.md say what they mean.',
    'anyOf': [ref('migration'), ref('plan'), ref('error')],
    '$defs': {
        'migration': {'title': 'migrate that ran to its end, or was refused once every row was known', **ref('report'),
                      'properties': {'outcome': {'enum': ['applied', 'refused']}}, 'unevaluatedProperties': False},
        'plan': {'title': 'plan; with `refusal`, migrate would be refused', **ref('report'),
                 'properties': {
                     'outcome': {'const': 'rehearsed'},
                     'columns': many(closed({'table': string, 'columns': many(
                         closed({'column': string, 'blue': string, 'rule': string, 'green': string}),
                         "Green's columns in their order, then blue's that are left behind.")}),
                         'How each column of each table that moves is converted; a dash where a side has none.'),
                     'not_checked': many(string, 'What this plan could not look at, each as a sentence.'),
                 },
                 'required': ['columns', 'not_checked'], 'unevaluatedProperties': False},
        'error': closed({
            'outcome': {'const': 'error'},
            'kind': {'description': 'Decides the exit code: usage 2; connection, server and io 1; refused 4; interrupted 130.',
                     'enum': ['usage', 'connection', 'server', 'io', 'refused', 'interrupted']},
            'message': string, 'details': many(string), 'causes': many(string), 'remedy': maybe,
        }, 'The program failed, was refused at once or was interrupted; the same stands on stderr.'),
        'report': {'type': 'object', 'properties': report, 'required': list(report)},
        'refusal': closed({'problem': string, 'details': many(string), 'remedy': maybe}),
        'side': closed({'server': string, 'version': string, 'name': string}),
        'count': {'type': 'integer', 'minimum': 0},
        'counts': {'description': 'Where every row of blue went: the others add up to source.', 'type': 'object',
                   'properties': {name: ref('count') for name in counts}, 'required': counts},
        'table': {**ref('counts'), 'properties': {'table': string, 'writer': {'enum': ['admin', 'traffic']}, 'reason': maybe},
                  'required': ['table', 'writer', 'reason'], 'unevaluatedProperties': False},
        'group': closed({'table': string, 'column': maybe,
                         'reason': {'description': 'A stable code.', 'type': 'string', 'pattern': '^[a-z0-9_]+$'},
                         'rows': ref('count'),
                         'examples': many({}, 'Some of their keys: a value, or an object for a key of several columns.')},
                        'Several rows with the same fate.'),
        'finding': closed({'weight': {'enum': ['stop', 'warn']}, 'problem': string, 'remedy': string}),
        'seconds': closed({'stage': number, 'check': number, 'apply': number, 'total': number}, 'Wall time of the phases.'),
    },
}
write('docs/report.schema.json', json.dumps(schema, indent=2, ensure_ascii=False) + '\n')
