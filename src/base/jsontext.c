#include "base/jsontext.h"
#include "base/mem.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>

static_assert(JSONTEXT_NESTING_MAX <= 64, "one bit a level in jsontext.kinds");

void jsontext_fini(struct jsontext *scanner)
{
    strbuf_fini(&scanner->text);
}

static void reset(struct jsontext *s)
{
    s->text.bytes = 0;
    s->depth = 0;
    s->kinds = 0;
    s->quote = 0;
    s->is_escaped = false;
    s->is_discarding = false;
}

static void fail(struct jsontext *s, struct err **reterr, const char *why)
{
    reset(s);
    (void)err_set(reterr, EINVAL, "JSON parse error, %s", why);
}

/* Over a limit: say so once, keep nothing, but follow the nesting so the rest is not taken for
 * messages. */
static void fail_and_discard(struct jsontext *s, struct err **reterr, const char *why, size_t limit)
{
    s->is_discarding = true;
    s->text.bytes = 0;
    (void)err_set(reterr, EINVAL, "JSON parse error, %s, at most %zu are allowed", why, limit);
}

static void keep(struct jsontext *s, const char *bytes, size_t count, struct err **reterr)
{
    if (s->is_discarding) {
        return;
    }
    if (s->text.bytes + count > s->bytes_max) {
        fail_and_discard(s, reterr, "message of too many bytes", s->bytes_max);
        return;
    }
    strbuf_add(&s->text, bytes, count);
}

static void take_in_string(struct jsontext *s, char c, struct err **reterr)
{
    char both[2] = {'\\', c};

    if ((unsigned char)c < 0x20) {
        fail(s, reterr, "control character in a string");
    } else if (s->is_escaped) {
        s->is_escaped = false;
        keep(s, c == '\'' ? &c : both, c == '\'' ? 1 : 2, reterr);
    } else if (c == '\\') {
        s->is_escaped = true;
    } else if (c == s->quote) {
        s->quote = 0;
        keep(s, "\"", 1, reterr);
    } else if (c == '"') {
        keep(s, "\\\"", 2, reterr); /* bare inside single quotes */
    } else {
        keep(s, &c, 1, reterr);
    }
}

static void take_open(struct jsontext *s, char c, struct err **reterr)
{
    s->depth++;
    if (s->is_discarding) {
        return;
    }
    if (s->depth > JSONTEXT_NESTING_MAX) {
        fail_and_discard(s, reterr, "too many levels of nesting", JSONTEXT_NESTING_MAX);
        return;
    }
    s->kinds = s->kinds << 1 | (c == '[');
    keep(s, &c, 1, reterr);
}

static void take_close(struct jsontext *s, char c, struct err **reterr)
{
    if (s->depth == 0) {
        fail(s, reterr, "closing bracket without an opening one");
        return;
    }
    s->depth--;
    if (s->is_discarding) {
        return;
    }
    if ((s->kinds & 1) != (c == ']')) {
        fail(s, reterr, "closing bracket of the wrong kind");
        return;
    }
    s->kinds >>= 1;
    keep(s, &c, 1, reterr);
}

static void take_outside_string(struct jsontext *s, char c, struct err **reterr)
{
    switch (c) {
    case '{':
    case '[':
        take_open(s, c, reterr);
        break;
    case '}':
    case ']':
        take_close(s, c, reterr);
        break;
    case '"':
    case '\'':
        s->quote = c;
        keep(s, "\"", 1, reterr);
        break;
    default:
        keep(s, &c, 1, reterr);
        break;
    }
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Is a bare word ("true", "12") before us complete, seen that @c follows? */
static bool ends_word(const struct jsontext *s, char c)
{
    return s->depth == 0 && s->quote == 0 && s->text.bytes > 0 &&
           (is_space(c) || strchr("{}[]\"'", c) != NULL);
}

static json_t *read_message(struct jsontext *s, struct err **reterr)
{
    json_error_t where;
    json_t *value = json_loadb(s->text.text, s->text.bytes,
                               JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);

    if (value == NULL && json_error_code(&where) == json_error_premature_end_of_input) {
        (void)err_set(reterr, EINVAL, "JSON parse error, premature EOI");
    } else if (value == NULL) {
        (void)err_set(reterr, EINVAL, "JSON parse error, %s", where.text);
    }
    reset(s);
    return value;
}

/* A string or the outermost bracket has just closed. */
static bool is_complete(const struct jsontext *s, char last)
{
    return s->depth == 0 && s->quote == 0 && s->text.bytes > 0 &&
           (last == '}' || last == ']' || last == '"' || last == '\'');
}

size_t jsontext_feed(struct jsontext *s, const char *from, size_t bytes, json_t **ret_value,
                     struct err **reterr)
{
    assert(*ret_value == NULL && *reterr == NULL);
    for (size_t i = 0; i < bytes; i++) {
        char c = from[i];
        bool was_in_string = s->quote != 0;

        if ((unsigned char)c >= 0xf8) {
            fail(s, reterr, "byte that UTF-8 never has");
            return i + 1;
        }
        if (ends_word(s, c)) {
            *ret_value = read_message(s, reterr);
            return i;
        }
        if (was_in_string) {
            take_in_string(s, c, reterr);
        } else if (s->depth > 0 || !is_space(c)) {
            take_outside_string(s, c, reterr);
        }
        if (s->is_discarding && s->depth == 0 && s->quote == 0) {
            reset(s); /* the end of what was over a limit, perhaps the very byte too many */
        }
        if (*reterr == NULL && (was_in_string || (c != '"' && c != '\'')) && is_complete(s, c)) {
            *ret_value = read_message(s, reterr);
        }
        if (*reterr != NULL || *ret_value != NULL) {
            return i + 1;
        }
    }
    return bytes;
}

json_t *jsontext_parse(const char *text, struct err **reterr)
{
    struct jsontext scanner = {.bytes_max = SIZE_MAX / 2};
    struct err *error = NULL;
    json_t *value = NULL;
    size_t bytes = strlen(text);
    size_t used = jsontext_feed(&scanner, text, bytes, &value, &error);

    if (value == NULL && error == NULL && scanner.text.bytes > 0) {
        value = read_message(&scanner, &error); /* a bare word, or cut short */
    } else if (value == NULL && error == NULL) {
        (void)err_set(&error, EINVAL, "Expecting a JSON value");
    }
    while (error == NULL && used < bytes && isspace((unsigned char)text[used])) {
        used++;
    }
    if (error == NULL && used < bytes) {
        (void)err_set(&error, EINVAL, "Expecting at most one JSON value");
    }
    if (error != NULL) {
        json_decref(value);
        value = NULL;
        err_propagate(reterr, error);
    }
    jsontext_fini(&scanner);
    return value;
}
