/*
 * opt_value.c -- one scalar: from JSON with strict types, or from text with a person's spelling.
 *
 * The same member reads `"size": 65536` in JSON and `size=64k` as text. A text names the member,
 * what was found and what would be right.
 */
#include "base/opt_int.h"
#include "base/mem.h"
#include "base/str.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct scalar {
    const struct opt *opt;
    const struct opt_path *path;
    unsigned flags;
    struct err **reterr;
};

bool opt_type_is_scalar(enum opt_type type)
{
    return type <= OPT_ENUM;
}

static const char *json_type_text(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        return "null";
    }
    unreachable();
}

static int wrong_type(const struct scalar *s, const char *expected, json_t *found)
{
    AUTO_MEM char *where = opt_path_text(s->path, s->flags);

    if ((s->flags & OPT_FROM_TEXT) && !json_is_string(found)) {
        return err_set(s->reterr, EINVAL, "Parameters '%s.*' are unexpected: '%s' is a plain value",
                       where, where);
    }
    return err_set(s->reterr, EINVAL, "Invalid parameter type for '%s', expected: %s, found: %s",
                   where, expected, json_type_text(found));
}

static int wrong_text(const struct scalar *s, const char *expected, const char *found)
{
    AUTO_MEM char *where = opt_path_text(s->path, s->flags);

    return err_set(s->reterr, EINVAL, "Parameter '%s' expects %s, not '%s'", where, expected,
                   found);
}

static int out_of_range(const struct scalar *s, json_t *value, const char *lowest,
                        const char *highest)
{
    AUTO_MEM char *where = opt_path_text(s->path, s->flags);
    AUTO_MEM char *found = json_is_string(value)
                               ? mem_strdup(json_string_value(value))
                               : str_format("%" JSON_INTEGER_FORMAT, json_integer_value(value));

    return err_set(s->reterr, EINVAL, "Parameter '%s' expects a value from %s to %s, not '%s'",
                   where, lowest, highest, found);
}

static uint64_t type_max(enum opt_type type)
{
    return type == OPT_U16 ? UINT16_MAX : type == OPT_U32 ? UINT32_MAX : UINT64_MAX;
}

/* 0, -EINVAL: not a number, -ERANGE: not one of 64 bits. */
static int read_unsigned(const struct scalar *s, json_t *value, uint64_t *ret_number)
{
    if (s->flags & OPT_FROM_TEXT) {
        const char *text = json_string_value(value);

        if (text[0] == '-') {
            return -ERANGE;
        }
        return s->opt->type == OPT_SIZE ? str_parse_size(text, ret_number)
                                        : str_parse_u64(text, UINT64_MAX, ret_number);
    }
    if (json_integer_value(value) < 0) {
        return -ERANGE;
    }
    *ret_number = (uint64_t)json_integer_value(value);
    return 0;
}

static int parse_unsigned(const struct scalar *s, json_t *value, uint64_t *ret_number)
{
    uint64_t highest = s->opt->max != 0 ? s->opt->max : type_max(s->opt->type);
    uint64_t number = 0;
    int rc = read_unsigned(s, value, &number);

    if (rc == -EINVAL) {
        return wrong_text(s,
                          s->opt->type == OPT_SIZE ? "a size such as 4096, 64k or 1G" : "a number",
                          json_string_value(value));
    }
    if (rc == -ERANGE || number < s->opt->min || number > highest) {
        AUTO_MEM char *low = str_format("%" PRIu64, s->opt->min);
        AUTO_MEM char *high = str_format("%" PRIu64, highest);

        return out_of_range(s, value, low, high);
    }
    *ret_number = number;
    return 0;
}

static int read_signed(const struct scalar *s, json_t *value, int64_t *ret_number)
{
    const char *text = json_string_value(value);
    bool negative;
    uint64_t magnitude = 0;
    int rc;

    if (!(s->flags & OPT_FROM_TEXT)) {
        *ret_number = json_integer_value(value);
        return 0;
    }
    negative = text[0] == '-';
    rc = str_parse_u64(text + negative, (uint64_t)INT64_MAX + negative, &magnitude);
    if (rc == 0) {
        *ret_number = (int64_t)(negative ? 0 - magnitude : magnitude);
    }
    return rc;
}

static int parse_signed(const struct scalar *s, json_t *value, int64_t *ret_number)
{
    bool is_bounded = s->opt->min != 0 || s->opt->max != 0;
    int64_t lowest = is_bounded ? (int64_t)s->opt->min : INT64_MIN;
    int64_t highest = s->opt->max != 0 ? (int64_t)s->opt->max : INT64_MAX;
    int64_t number = 0;
    int rc = read_signed(s, value, &number);

    if (rc == -EINVAL) {
        return wrong_text(s, "an integer", json_string_value(value));
    }
    if (rc == -ERANGE || number < lowest || number > highest) {
        AUTO_MEM char *low = str_format("%" PRId64, lowest);
        AUTO_MEM char *high = str_format("%" PRId64, highest);

        return out_of_range(s, value, low, high);
    }
    *ret_number = number;
    return 0;
}

static int parse_bool(const struct scalar *s, json_t *value, bool *ret_value)
{
    if (!(s->flags & OPT_FROM_TEXT)) {
        *ret_value = json_is_true(value);
        return 0;
    }
    if (str_parse_bool(json_string_value(value), ret_value) < 0) {
        return wrong_text(s, "'on' or 'off'", json_string_value(value));
    }
    return 0;
}

static int parse_enum(const struct scalar *s, json_t *value, int *ret_index)
{
    const char *text = json_string_value(value);
    struct strbuf all = {0};
    int rc;

    for (int i = 0; s->opt->names[i] != NULL; i++) {
        if (strcmp(s->opt->names[i], text) == 0) {
            *ret_index = i;
            strbuf_fini(&all);
            return 0;
        }
        strbuf_addf(&all, "%s'%s'", i > 0 ? ", " : "", s->opt->names[i]);
    }
    {
        AUTO_MEM char *where = opt_path_text(s->path, s->flags);

        rc = err_set(s->reterr, EINVAL, "Parameter '%s' does not accept value '%s', only %s", where,
                     text, all.text);
    }
    strbuf_fini(&all);
    return rc;
}

/* The JSON type that @type wants; text arrives as strings whatever it means. */
static bool has_right_type(const struct scalar *s, json_t *value, const char **ret_expected)
{
    bool fits;

    switch (s->opt->type) {
    case OPT_BOOL:
        *ret_expected = "boolean";
        fits = json_is_boolean(value);
        break;
    case OPT_U16:
    case OPT_U32:
    case OPT_U64:
    case OPT_I64:
    case OPT_SIZE:
        *ret_expected = "integer";
        fits = json_is_integer(value);
        break;
    case OPT_STR:
    case OPT_ENUM:
    case OPT_STRUCT:
    case OPT_LIST:
    case OPT_STRS:
    case OPT_JSON:
    case OPT_TYPE_MAX_:
    default:
        *ret_expected = "string";
        fits = json_is_string(value);
        break;
    }
    return (s->flags & OPT_FROM_TEXT) ? json_is_string(value) : fits;
}

/* A text with a NUL inside would be cut short by everybody behind us. */
static int parse_string(const struct scalar *s, json_t *value, char **ret_text)
{
    const char *text = json_string_value(value);

    if (strlen(text) != json_string_length(value)) {
        AUTO_MEM char *where = opt_path_text(s->path, s->flags);

        return err_set(s->reterr, EINVAL, "Parameter '%s' expects a string without \\u0000", where);
    }
    *ret_text = mem_strdup(text);
    return 0;
}

static int parse_number(const struct scalar *s, json_t *value, void *to)
{
    uint64_t number = 0;
    int rc = parse_unsigned(s, value, &number);

    if (rc < 0) {
        return rc;
    }
    if (s->opt->type == OPT_U16) {
        *(uint16_t *)to = (uint16_t)number;
    } else if (s->opt->type == OPT_U32) {
        *(uint32_t *)to = (uint32_t)number;
    } else {
        *(uint64_t *)to = number;
    }
    return 0;
}

int opt_scalar_parse(const struct opt *opt, json_t *value, unsigned flags,
                     const struct opt_path *path, void *to, struct err **reterr)
{
    struct scalar s = {.opt = opt, .path = path, .flags = flags, .reterr = reterr};
    const char *expected;

    if (!has_right_type(&s, value, &expected)) {
        return wrong_type(&s, expected, value);
    }
    switch (opt->type) {
    case OPT_STR:
        return parse_string(&s, value, to);
    case OPT_BOOL:
        return parse_bool(&s, value, to);
    case OPT_U16:
    case OPT_U32:
    case OPT_U64:
    case OPT_SIZE:
        return parse_number(&s, value, to);
    case OPT_I64:
        return parse_signed(&s, value, to);
    case OPT_ENUM:
        return parse_enum(&s, value, to);
    case OPT_STRUCT:
    case OPT_LIST:
    case OPT_STRS:
    case OPT_JSON:
    case OPT_TYPE_MAX_:
        break;
    }
    unreachable();
}

void opt_default_set(const struct opt *opt, void *to)
{
    struct opt_path path = {.name = opt->name};
    struct err *error = NULL;
    json_t *text = json_string(opt->dflt);

    if (opt_scalar_parse(opt, text, OPT_FROM_TEXT, &path, to, &error) < 0) {
        panic("default of option '%s': %s", opt->name, error->text);
    }
    json_decref(text);
}
