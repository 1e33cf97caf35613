/*
 * opt.c -- fill a plain struct from an object, as a typed table says.
 *
 * (O1) Unknown and refused members are looked for before anything else, so a misspelt required
 *      member is reported as misspelt and not as missing.
 * (O2) A member that is absent gets its default; an absent struct gets the defaults of its members.
 * (O3) Whatever is half filled when an error is found is released here: zeroed memory is a valid,
 *      empty values struct, so opt_free_values() can run at any point.
 */
#include "base/opt_int.h"
#include "base/mem.h"
#include "base/str.h"
#include <errno.h>
#include <string.h>

struct parser {
    unsigned flags;
    struct err **reterr;
};

static int parse_struct(struct parser *p, const struct opt_table *table, json_t *object,
                        const struct opt_path *path, void *values);

static void *value_at(void *values, const struct opt *opt)
{
    return (char *)values + opt->offset;
}

static void add_step(struct strbuf *to, const struct opt_path *path, unsigned flags)
{
    if (path->name != NULL) {
        strbuf_addf(to, "%s%s", to->bytes > 0 ? "." : "", path->name);
    } else {
        strbuf_addf(to, (flags & OPT_FROM_TEXT) ? ".%zu" : "[%zu]", path->index);
    }
}

static size_t path_depth(const struct opt_path *path)
{
    size_t depth = 0;

    for (; path != NULL; path = path->up) {
        depth++;
    }
    return depth;
}

char *opt_path_text(const struct opt_path *path, unsigned flags)
{
    struct strbuf text = {0};
    size_t depth = path_depth(path);

    if (depth == 0) {
        return mem_strdup("arguments");
    }
    for (size_t from_top = 1; from_top <= depth; from_top++) {
        const struct opt_path *step = path;

        for (size_t up = from_top; up < depth; up++) {
            step = step->up;
        }
        add_step(&text, step, flags);
    }
    return text.text;
}

static const struct opt *find_member(const struct opt_table *table, const char *name)
{
    for (; table != NULL; table = table->base) {
        for (size_t i = 0; i < table->count; i++) {
            if (strcmp(table->opts[i].name, name) == 0) {
                return &table->opts[i];
            }
        }
    }
    return NULL;
}

static int report_unknown(struct parser *p, const struct opt_table *table, const char *name,
                          const struct opt_path *up)
{
    struct opt_path path = {.up = up, .name = name};
    AUTO_MEM char *where = opt_path_text(&path, p->flags);
    const char *closest = opt_closest(table, name);

    if (closest != NULL) {
        return err_set(p->reterr, EINVAL, "Parameter '%s' is unexpected; did you mean '%s'?", where,
                       closest);
    }
    return err_set(p->reterr, EINVAL, "Parameter '%s' is unexpected", where);
}

static int report_refused(struct parser *p, const struct opt *opt, const struct opt_path *up)
{
    struct opt_path path = {.up = up, .name = opt->name};
    AUTO_MEM char *where = opt_path_text(&path, p->flags);

    return err_set(p->reterr, EINVAL, "Parameter '%s' is not supported here: %s", where, opt->help);
}

static int check_names(struct parser *p, const struct opt_table *table, json_t *object,
                       const struct opt_path *up)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value)
    {
        const struct opt *opt = find_member(table, name);

        if (opt == NULL) {
            if (!(p->flags & OPT_KEEP_REST) || up != NULL) {
                return report_unknown(p, table, name, up);
            }
        } else if (opt->flags & OPT_REFUSED) {
            return report_refused(p, opt, up);
        }
    }
    return 0;
}

static int wrong_kind(struct parser *p, const struct opt_path *path, const char *expected)
{
    AUTO_MEM char *where = opt_path_text(path, p->flags);

    if (p->flags & OPT_FROM_TEXT) {
        return err_set(p->reterr, EINVAL, "Parameter '%s' expects %s, such as '%s.%s=…'", where,
                       expected, where, strcmp(expected, "object") == 0 ? "MEMBER" : "0");
    }
    return err_set(p->reterr, EINVAL, "Invalid parameter type for '%s', expected: %s", where,
                   expected);
}

static int parse_list(struct parser *p, const struct opt *opt, json_t *array,
                      const struct opt_path *path, struct opt_list *list)
{
    const size_t each = opt->table->values_bytes;
    size_t count = json_array_size(array);

    if (!json_is_array(array)) {
        return wrong_kind(p, path, "array");
    }
    if (count == 0) {
        return 0;
    }
    list->items = mem_alloc_array(count, each);
    for (size_t i = 0; i < count; i++) {
        struct opt_path element = {.up = path, .index = i};
        int rc;

        list->count = i + 1; /* (O3): the element under way is released too */
        rc = parse_struct(p, opt->table, json_array_get(array, i), &element,
                          (char *)list->items + i * each);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int parse_strs(struct parser *p, json_t *value, const struct opt_path *path,
                      struct opt_strs *strs)
{
    static const struct opt element = {.type = OPT_STR};
    bool is_one = json_is_string(value);
    size_t count = is_one ? 1 : json_array_size(value);

    if (!is_one && !json_is_array(value)) {
        return wrong_kind(p, path, "string or array");
    }
    if (count == 0) {
        return 0;
    }
    strs->items = mem_alloc_array(count, sizeof(*strs->items));
    for (size_t i = 0; i < count; i++) {
        struct opt_path at = {.up = path, .index = i};
        int rc = opt_scalar_parse(&element, is_one ? value : json_array_get(value, i), p->flags,
                                  is_one ? path : &at, &strs->items[i], p->reterr);

        if (rc < 0) {
            return rc;
        }
        strs->count = i + 1;
    }
    return 0;
}

static int parse_member(struct parser *p, const struct opt *opt, json_t *value,
                        const struct opt_path *path, void *to)
{
    switch (opt->type) {
    case OPT_STRUCT:
        return parse_struct(p, opt->table, value, path, to);
    case OPT_LIST:
        return parse_list(p, opt, value, path, to);
    case OPT_STRS:
        return parse_strs(p, value, path, to);
    case OPT_JSON:
        *(json_t **)to = json_incref(value);
        return 0;
    case OPT_STR:
    case OPT_BOOL:
    case OPT_U16:
    case OPT_U32:
    case OPT_U64:
    case OPT_I64:
    case OPT_SIZE:
    case OPT_ENUM:
        return opt_scalar_parse(opt, value, p->flags, path, to, p->reterr);
    case OPT_TYPE_MAX_:
        break;
    }
    unreachable();
}

static void set_defaults(const struct opt_table *table, void *values);

static void set_default(const struct opt *opt, void *to)
{
    if (opt->type == OPT_STRUCT) {
        set_defaults(opt->table, to);
    } else if (opt->dflt != NULL && opt_type_is_scalar(opt->type)) {
        opt_default_set(opt, to);
    }
}

static void set_defaults(const struct opt_table *table, void *values)
{
    for (; table != NULL; table = table->base) {
        for (size_t i = 0; i < table->count; i++) {
            if (!(table->opts[i].flags & OPT_REFUSED)) {
                set_default(&table->opts[i], value_at(values, &table->opts[i]));
            }
        }
    }
}

static int report_missing(struct parser *p, const struct opt_path *path)
{
    AUTO_MEM char *where = opt_path_text(path, p->flags);

    return err_set(p->reterr, EINVAL, "Parameter '%s' is missing", where);
}

static int parse_own_members(struct parser *p, const struct opt_table *table, json_t *object,
                             const struct opt_path *up, void *values)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct opt *opt = &table->opts[i];
        struct opt_path path = {.up = up, .name = opt->name};
        json_t *value = json_object_get(object, opt->name);
        bool is_absent =
            value == NULL || ((opt->flags & OPT_NULLABLE) && json_is_null(value));
        int rc = 0;

        if (opt->flags & OPT_REFUSED) {
            continue;
        }
        if (!is_absent) {
            rc = parse_member(p, opt, value, &path, value_at(values, opt));
        } else if (opt->flags & OPT_REQUIRED) {
            rc = report_missing(p, &path);
        } else {
            set_default(opt, value_at(values, opt));
        }
        if (rc < 0) {
            return rc;
        }
        if (opt->has_offset != 0) {
            *(bool *)((char *)values + opt->has_offset) = !is_absent;
        }
    }
    return 0;
}

static int parse_members(struct parser *p, const struct opt_table *table, json_t *object,
                         const struct opt_path *path, void *values)
{
    const struct opt_table *part;
    int rc = 0;

    for (size_t i = 0; rc == 0 && (part = opt_table_part(table, i)) != NULL; i++) {
        rc = parse_own_members(p, part, object, path, values);
    }
    return rc;
}

static int parse_struct(struct parser *p, const struct opt_table *table, json_t *object,
                        const struct opt_path *path, void *values)
{
    int rc;

    if (!json_is_object(object)) {
        return wrong_kind(p, path, "object");
    }
    rc = check_names(p, table, object, path);
    return rc < 0 ? rc : parse_members(p, table, object, path, values);
}

int opt_parse(const struct opt_table *table, json_t *object, unsigned flags, void *values,
              struct err **reterr)
{
    struct parser p = {.flags = flags, .reterr = reterr};
    int rc;

    memset(values, 0, table->values_bytes);
    rc = parse_struct(&p, table, object, NULL, values);
    if (rc < 0) {
        opt_free_values(table, values);
    }
    return rc;
}

static void free_list(const struct opt_table *table, struct opt_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        opt_free_values(table, (char *)list->items + i * table->values_bytes);
    }
    mem_free(list->items);
}

static void free_strs(struct opt_strs *strs)
{
    for (size_t i = 0; i < strs->count; i++) {
        mem_free(strs->items[i]);
    }
    mem_free(strs->items);
}

static void free_member(const struct opt *opt, void *at)
{
    switch (opt->type) {
    case OPT_STR:
        mem_free(*(char **)at);
        break;
    case OPT_STRUCT:
        opt_free_values(opt->table, at);
        break;
    case OPT_LIST:
        free_list(opt->table, at);
        break;
    case OPT_STRS:
        free_strs(at);
        break;
    case OPT_JSON:
        json_decref(*(json_t **)at);
        break;
    case OPT_BOOL:
    case OPT_U16:
    case OPT_U32:
    case OPT_U64:
    case OPT_I64:
    case OPT_SIZE:
    case OPT_ENUM:
    case OPT_TYPE_MAX_:
        break;
    }
}

void opt_free_values(const struct opt_table *table, void *values)
{
    for (const struct opt_table *t = table; t != NULL; t = t->base) {
        for (size_t i = 0; i < t->count; i++) {
            if (!(t->opts[i].flags & OPT_REFUSED)) {
                free_member(&t->opts[i], value_at(values, &t->opts[i]));
            }
        }
    }
    memset(values, 0, table->values_bytes);
}
