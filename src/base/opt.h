/*
 * opt.h -- typed tables: options, command arguments and device properties, declared once.
 *
 * A table says for each member its name, type, default, since and one line of help, and where its
 * value goes in a plain struct. The same table parses JSON (QMP, `json:` and `{…}` on the command
 * line) and dotted keys (all values still text), prints `X,help`, and feeds query-qmp-schema and
 * the manual. A table may extend another (`base`): its values struct then begins with the base's.
 *
 *     struct null_options { struct blk_common_options common; uint64_t size; };
 *     static const struct opt null_opts[] = {
 *         {.name = "size", .type = OPT_SIZE, OPT_AT(struct null_options, size), .dflt = "1G",
 *          .since = "0.1", .help = "virtual size in bytes"},
 *     };
 *     const struct opt_table null_table = {.name = "null-co", .base = &blk_common_table,
 *          .opts = null_opts, .count = countof(null_opts),
 *          .values_bytes = sizeof(struct null_options)};
 *
 * Parsed strings, lists and JSON values are owned by the values struct: opt_free_values().
 * Main loop (or start-up) only.
 */
#pragma once
#include "base/err.h"
#include <jansson.h>
#include "base/ctx.h"

CTX_ANY_BEGIN

enum opt_type {
    OPT_STR,    /* char *; NULL when absent without default */
    OPT_BOOL,   /* bool */
    OPT_U16,    /* uint16_t */
    OPT_U32,    /* uint32_t */
    OPT_U64,    /* uint64_t */
    OPT_I64,    /* int64_t */
    OPT_SIZE,   /* uint64_t bytes; as text with a suffix (64k, 1G) */
    OPT_ENUM,   /* int: the index into .names */
    OPT_STRUCT, /* the nested struct itself, described by .table */
    OPT_LIST,   /* struct opt_list of .table structs */
    OPT_STRS,   /* struct opt_strs: a list of strings, or one string alone (QEMU's alternate) */
    OPT_JSON,   /* json_t * (a reference): anything; for members that another table parses later */
    OPT_TYPE_MAX_
};

enum opt_flags {
    OPT_REQUIRED = 1 << 0,
    OPT_REFUSED = 1 << 1,  /* known to the field, but refused here by name; .help says why */
    OPT_NULLABLE = 1 << 2, /* JSON null is accepted and reads as absent */
};

struct opt {
    const char *name;
    enum opt_type type;
    unsigned flags;
    size_t offset;             /* of the value in the values struct */
    size_t has_offset;         /* of a bool that says "was given"; 0: nobody asks */
    const char *dflt;          /* as a person would type it; NULL: zero */
    uint64_t min, max;         /* for the number types; max 0: the type's own. OPT_I64: cast, and
                                * both 0: its whole range */
    const char *const *names;  /* OPT_ENUM: NULL-terminated */
    const struct opt_table *table; /* OPT_STRUCT, OPT_LIST */
    const char *since;
    const char *help;
};
#define OPT_AT(type, member) .offset = offsetof(type, member)
#define OPT_HAS(type, member) .has_offset = offsetof(type, member)

struct opt_table {
    const char *name;
    const char *help;
    const struct opt_table *base;
    const struct opt *opts;
    size_t count;
    size_t values_bytes;
};

struct opt_list {
    void *items; /* array of count values structs, each .table->values_bytes long */
    size_t count;
};

struct opt_strs {
    char **items;
    size_t count;
};

enum opt_parse_flags {
    OPT_FROM_TEXT = 1 << 0,  /* dotted keys: every scalar arrives as a JSON string */
    OPT_KEEP_REST = 1 << 1,  /* unknown members are not an error (another table reads them) */
};

/* Fill @values (zeroed by this function) from @object. On failure nothing needs freeing, and the
 * text names the member with its path ("'file.filename'"), what was found and what would be right;
 * an unknown member names the closest known one when there is one. -EINVAL. */
must_check int opt_parse(const struct opt_table *table, json_t *object, unsigned flags,
                         void *values, struct err **reterr);
void opt_free_values(const struct opt_table *table, void *values); /* leaves zeroes */

/* "name=<type>   help (default: x, since y)" for each member, base first, as `X,help` prints it. */
struct strbuf;
void opt_help(const struct opt_table *table, struct strbuf *to);

/* Walk base and own members in order; stops when @each returns false. */
void opt_each(const struct opt_table *table, bool (*each)(const struct opt *opt, void *opaque),
              void *opaque);
const char *opt_type_name(enum opt_type type); /* "str", "bool", "int", "size", … as QEMU prints */

/* Parse one dotted-key option string ("driver=file,filename=/a,,b,node-name=n", QEMU's keyval
 * rules: ",," is a comma, a.0=… a.1=… lists, @implied_key for a first value without a key) or, when
 * it starts with '{', JSON. *@ret_flags gets OPT_FROM_TEXT for the former. *@ret_help: "help" or
 * "?" was asked for. The caller owns the reference. */
must_check int opt_parse_string(const char *text, const char *implied_key, json_t **ret_object,
                                unsigned *ret_flags, bool *ret_help, struct err **reterr);

CTX_ANY_END
