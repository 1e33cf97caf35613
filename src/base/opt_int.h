/* opt_int.h -- what the opt_*.c files share. */
#pragma once
#include "base/opt.h"

CTX_ANY_BEGIN

/* Where in the caller's object we are; lives on the stack of the parser, so it costs nothing. */
struct opt_path {
    const struct opt_path *up; /* NULL: the top */
    const char *name;          /* of a member; NULL: an element of a list */
    size_t index;
};

/* "file.filename", "vqs[1]" (JSON) or "vqs.1" (text). Free with mem_free(). */
char *opt_path_text(const struct opt_path *path, unsigned flags);

/* Turn @value into what @opt's type stores and put it at @to. Scalars and enums only. */
must_check int opt_scalar_parse(const struct opt *opt, json_t *value, unsigned flags,
                                const struct opt_path *path, void *to, struct err **reterr);
/* As above from the table's own text; a default that does not parse is our bug. */
void opt_default_set(const struct opt *opt, void *to);
bool opt_type_is_scalar(enum opt_type type);

/* @table's @index-th part, its deepest base first and itself last; NULL: there are fewer. */
const struct opt_table *opt_table_part(const struct opt_table *table, size_t index);

/* The known member nearest to @name, if it is near enough to be what was meant; else NULL. */
const char *opt_closest(const struct opt_table *table, const char *name);

CTX_ANY_END
