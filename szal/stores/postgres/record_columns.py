"""How the columns that are kept of a record come to be in PostgreSQL, whoever writes the row.

szal fills them in as it writes. Of a row that says nothing of them, as szal-rs's, and of one whose data alone was
changed, triggers do. They cost those who write the columns nothing but a test.

A row that somebody else wrote may say anything: each column has what could be read, or nothing. A function that failed
would keep everybody from inserting such a row, szal-rs included, and `migrate` from going on.
"""

# All of it is constants of szal.
# ruff: noqa: S608

from szal.model.state import WorkflowState
from szal.stores.filters import HEAD

__all__ = ["ADD", "FILL", "FUNCTIONS", "TRIGGERS"]

TRIGGERS = ("szal_fill_new", "szal_fill_changed")
"""What sees to it that the columns are filled in, whoever writes."""

FUNCTIONS = ("szal_head", "szal_cut", "szal_key", "szal_fill")
"""What the triggers call."""

ADD = (
    "ALTER TABLE szal.szal_executions ADD COLUMN IF NOT EXISTS state TEXT,"
    ' ADD COLUMN IF NOT EXISTS started TEXT COLLATE "C", ADD COLUMN IF NOT EXISTS finished TEXT COLLATE "C",'
    " ADD COLUMN IF NOT EXISTS parent TEXT, ADD COLUMN IF NOT EXISTS labels JSONB, ADD COLUMN IF NOT EXISTS head TEXT"
)

# What is asked of a record stands before and after its result, which may be megabytes: parsing that would cost more
# than writing it. In text as szal and szal-rs write it the result is left out first: the last "started_at" is the
# record's own exactly if what begins there, put behind the first three keys, is JSON. (One that is nested has a brace
# too many behind it, and inside of a string the quotes would be escaped.) Bytes, since characters can only be counted
# from the beginning.
_CUT = r"""
CREATE OR REPLACE FUNCTION szal.szal_cut(data text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $szal$
DECLARE
    head text;
    bytes bytea;
    place int;
BEGIN
    IF octet_length(data) < 4000 THEN
        RETURN data;
    END IF;
    head := substring(left(data, 2000) FROM
        '^\{"execution_id":"(?:[^"\\]|\\.)*","flow_name":"(?:[^"\\]|\\.)*","state":"[A-Za-z]+",');
    bytes := convert_to(data, 'UTF8');
    place := strpos(reverse(convert_from(substring(bytes FROM octet_length(bytes) - 7999), 'LATIN1')),
        reverse(',"started_at":"'));
    IF head IS NULL OR place = 0 THEN
        RETURN data;
    END IF;
    head := head || convert_from(substring(bytes FROM octet_length(bytes) - place - 12), 'UTF8');
    PERFORM head::json;
    RETURN head;
EXCEPTION WHEN OTHERS THEN
    RETURN data;
END $szal$
"""

# The six fields, as JSON: so the record is parsed once, and what follows looks at those alone. In a row with text that
# PostgreSQL cannot unescape (NUL, half a surrogate pair; what a database that is not in UTF-8 has no place for) those
# escapes are made harmless: whatever precedes them, a slash instead of the last backslash leaves it JSON.
_FIELDS = (
    f"SELECT json_build_array({', '.join(HEAD)})::text"
    f" FROM json_to_record(data::json) AS record({', '.join(f'{key} json' for key in HEAD)})"
)
_HEAD = r"""
CREATE OR REPLACE FUNCTION szal.szal_head(data text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $szal$
BEGIN
    data := szal.szal_cut(data);
    BEGIN
        RETURN (<fields>);
    EXCEPTION WHEN OTHERS THEN
        data := regexp_replace(data, CASE WHEN pg_catalog.getdatabaseencoding() = 'UTF8'
            THEN '\\u(0000|[dD][89a-fA-F])' ELSE '\\u(0000|00[89a-fA-F]|0[1-9a-fA-F]|[1-9a-fA-F])' END, '/u\1', 'g');
    END;
    BEGIN
        RETURN (<fields>);
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
END $szal$
""".replace("<fields>", _FIELDS)

# szal.stores.filters.key_of in SQL: a day that there is not is an error, 24:00 and a leap second come back as others.
_KEY = r"""
CREATE OR REPLACE FUNCTION szal.szal_key(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $szal$
DECLARE
    part text[];
    moment timestamp;
BEGIN
    part := regexp_match(given,
        '^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|([+-](?:[01]\d|2[0-3]):[0-5]\d))$');
    part[1] := replace(part[1], ' ', 'T');
    moment := part[1];
    IF to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS') = part[1] THEN
        moment := moment - coalesce(part[3], '+00:00')::interval;
        IF moment >= '0001-01-01' AND moment < '10000-01-01' THEN
            RETURN to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS') || '0' || left(coalesce(part[2], '') || '000000', 6);
        END IF;
    END IF;
    RETURN '';
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END $szal$
""".replace(r"\d", "[0-9]")


def _text(place: int) -> str:
    return f"CASE json_typeof(found -> {place}) WHEN 'string' THEN found ->> {place} END"


_STATES = ", ".join(f"'{state.value}'" for state in WorkflowState)
# With the search path of whoever migrates: szal-rs, and pg_restore, may have another.
_FILL = f"""
CREATE OR REPLACE FUNCTION szal.szal_fill() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $szal$
DECLARE
    found json;
BEGIN
    found := coalesce(szal.szal_head(NEW.data), '[]');
    NEW.state := CASE WHEN {_text(0)} IN ({_STATES}) THEN found ->> 0 ELSE '' END;
    NEW.started := szal.szal_key({_text(1)});
    NEW.finished := CASE json_typeof(found -> 2) WHEN 'null' THEN NEW.started ELSE szal.szal_key({_text(2)}) END;
    NEW.parent := {_text(3)};
    NEW.labels := CASE json_typeof(found -> 4) WHEN 'object' THEN (
        SELECT jsonb_object_agg(key, value) FROM json_each(found -> 4) WHERE json_typeof(value) = 'string'
    ) END;
    NEW.head := json_build_array({_text(0)}, {_text(1)}, {_text(2)}, NEW.parent, NEW.labels, {_text(5)});
    RETURN NEW;
EXCEPTION
WHEN undefined_function THEN
    RAISE;
WHEN OTHERS THEN
    NEW.state := '';
    NEW.started := '';
    NEW.finished := '';
    NEW.parent := NULL;
    NEW.labels := NULL;
    NEW.head := '[]';
    RETURN NEW;
END $szal$
"""
_ID = '(execution_id COLLATE "C")'

FILL = (
    (
        "DROP INDEX IF EXISTS szal.szal_executions_flow, szal.szal_executions_state, szal.szal_executions_started,"
        " szal.szal_executions_labels"
    ),
    "DROP TRIGGER IF EXISTS szal_fill_new ON szal.szal_executions",
    "DROP TRIGGER IF EXISTS szal_fill_changed ON szal.szal_executions",
    _CUT,
    _HEAD,
    _KEY,
    _FILL,
    (
        "CREATE TRIGGER szal_fill_new BEFORE INSERT ON szal.szal_executions FOR EACH ROW WHEN (NEW.head IS NULL)"
        " EXECUTE FUNCTION szal.szal_fill()"
    ),
    (
        "CREATE TRIGGER szal_fill_changed BEFORE UPDATE OF data ON szal.szal_executions FOR EACH ROW"
        " WHEN (NEW.head IS NULL OR"
        " (NEW.head IS NOT DISTINCT FROM OLD.head AND NEW.data IS DISTINCT FROM OLD.data))"
        " EXECUTE FUNCTION szal.szal_fill()"
    ),
    "UPDATE szal.szal_executions SET data = data, head = NULL",
    f"CREATE INDEX szal_executions_flow ON szal.szal_executions (flow_name, state, started, {_ID})",
    f"CREATE INDEX szal_executions_state ON szal.szal_executions (state, started, {_ID})",
    f"CREATE INDEX szal_executions_started ON szal.szal_executions (started, {_ID})",
    (
        "CREATE INDEX szal_executions_labels ON szal.szal_executions USING gin (labels jsonb_path_ops)"
        " WHERE labels IS NOT NULL"
    ),
)
"""What fills the columns in, and sees to it that they are; it can be done again."""
