/* opt_help.c -- what tables say about themselves: help texts, walks, the nearest known name. */
#include "base/opt_int.h"
#include "base/mem.h"
#include "base/str.h"
#include <string.h>

enum { HELP_COLUMN = 36 };

const char *opt_type_name(enum opt_type type)
{
    static const char *const names[] = {
        [OPT_STR] = "str",      [OPT_BOOL] = "bool",     [OPT_U16] = "uint16",
        [OPT_U32] = "uint32",   [OPT_U64] = "uint64",    [OPT_I64] = "int",
        [OPT_SIZE] = "size",    [OPT_ENUM] = "enum",     [OPT_STRUCT] = "struct",
        [OPT_LIST] = "list",    [OPT_STRS] = "str|list", [OPT_JSON] = "any",
    };

    assert(type < OPT_TYPE_MAX_);
    return names[type];
}

const struct opt_table *opt_table_part(const struct opt_table *table, size_t index)
{
    size_t count = 0;

    for (const struct opt_table *t = table; t != NULL; t = t->base) {
        count++;
    }
    if (index >= count) {
        return NULL;
    }
    for (size_t i = index + 1; i < count; i++) {
        table = table->base;
    }
    return table;
}

void opt_each(const struct opt_table *table, bool (*each)(const struct opt *opt, void *opaque),
              void *opaque)
{
    const struct opt_table *part;

    for (size_t i = 0; (part = opt_table_part(table, i)) != NULL; i++) {
        for (size_t j = 0; j < part->count; j++) {
            if (!each(&part->opts[j], opaque)) {
                return;
            }
        }
    }
}

/* ---- help ---- */

struct help {
    struct strbuf *to;
    const char *prefix; /* "addr." */
};

static void add_type(const struct opt *opt, struct strbuf *to)
{
    if (opt->type != OPT_ENUM) {
        strbuf_addf(to, "<%s>", opt_type_name(opt->type));
        return;
    }
    for (size_t i = 0; opt->names[i] != NULL; i++) {
        strbuf_addf(to, "%c%s", i == 0 ? '<' : '|', opt->names[i]);
    }
    strbuf_addf(to, ">");
}

static void add_details(const struct opt *opt, struct strbuf *to)
{
    const char *separator = " (";

    if (opt->flags & OPT_REQUIRED) {
        strbuf_addf(to, "%srequired", separator);
        separator = ", ";
    }
    if (opt->dflt != NULL) {
        strbuf_addf(to, "%sdefault: %s", separator, opt->dflt);
        separator = ", ";
    }
    if (opt->since != NULL) {
        strbuf_addf(to, "%ssince %s", separator, opt->since);
        separator = ", ";
    }
    if (separator[0] == ',') {
        strbuf_addf(to, ")");
    }
}

static bool add_member(const struct opt *opt, void *opaque);

static void add_nested(const struct opt *opt, const struct help *help)
{
    AUTO_MEM char *prefix =
        str_format("%s%s%s", help->prefix, opt->name, opt->type == OPT_LIST ? ".N." : ".");
    struct help nested = {.to = help->to, .prefix = prefix};

    opt_each(opt->table, add_member, &nested);
}

static bool add_member(const struct opt *opt, void *opaque)
{
    const struct help *help = opaque;
    size_t start = help->to->bytes;

    if (opt->flags & OPT_REFUSED) {
        return true;
    }
    if (opt->table != NULL && (opt->type == OPT_STRUCT || opt->type == OPT_LIST)) {
        add_nested(opt, help);
        return true;
    }
    strbuf_addf(help->to, "  %s%s=", help->prefix, opt->name);
    add_type(opt, help->to);
    do {
        strbuf_addf(help->to, " ");
    } while (help->to->bytes - start < HELP_COLUMN);
    strbuf_addf(help->to, "%s", opt->help != NULL ? opt->help : "");
    add_details(opt, help->to);
    strbuf_addf(help->to, "\n");
    return true;
}

void opt_help(const struct opt_table *table, struct strbuf *to)
{
    struct help help = {.to = to, .prefix = ""};

    opt_each(table, add_member, &help);
}

/* ---- the nearest name ---- */

struct search {
    const char *name;
    const char *best;
    size_t best_distance;
};

static bool consider(const struct opt *opt, void *opaque)
{
    struct search *search = opaque;
    size_t distance = (opt->flags & OPT_REFUSED) ? SIZE_MAX : str_distance(search->name, opt->name);

    if (distance < search->best_distance) {
        search->best = opt->name;
        search->best_distance = distance;
    }
    return true;
}

const char *opt_closest(const struct opt_table *table, const char *name)
{
    struct search search = {.name = name, .best_distance = SIZE_MAX};

    opt_each(table, consider, &search);
    return search.best;
}
