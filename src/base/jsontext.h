/*
 * jsontext.h -- JSON as QMP clients write it: messages cut out of a stream, then read by jansson.
 *
 * A message ends where its outermost bracket closes; white space between messages means nothing.
 * Beyond standard JSON, as QEMU: strings may be in single quotes, and a byte that UTF-8 never has
 * (0xff) throws away a half-sent message. Any thread; a scanner belongs to one user.
 */
#pragma once
#include "base/err.h"
#include "base/str.h"
#include <jansson.h>
#include "base/ctx.h"

CTX_ANY_BEGIN

enum { JSONTEXT_NESTING_MAX = 64 }; /* parsers recurse, and that on a coroutine's stack */

/* Zero-initialise and set bytes_max. */
struct jsontext {
    size_t bytes_max;    /* of one message */
    struct strbuf text;  /* the message so far, single quotes made double */
    uint64_t kinds;      /* of the open brackets: bit set for '[', the innermost lowest */
    size_t depth;
    char quote;          /* inside a string: how it ends; else 0 */
    bool is_escaped;     /* after a backslash */
    bool is_discarding;  /* over a limit, already reported: only the end is looked for */
};
void jsontext_fini(struct jsontext *scanner);

/* Take bytes from @from until a message ends, is found to be wrong, or all are used; returns how
 * many were taken. *@ret_value (new reference) or *@reterr is set when a message ended; neither:
 * more is needed. Both must be NULL before. After an error the scanner is ready for the next
 * message. */
size_t jsontext_feed(struct jsontext *scanner, const char *from, size_t bytes, json_t **ret_value,
                     struct err **reterr);

/* All of @text is one JSON value. NULL: it is not; the error says why ("JSON parse error, …"). */
json_t *jsontext_parse(const char *text, struct err **reterr);

CTX_ANY_END
