/* str.h -- text: formatting into fresh memory, a growing buffer, parsing numbers. Any thread. */
#pragma once
#include "base/macros.h"
#include <stdarg.h>
#include "base/ctx.h"

CTX_ANY_BEGIN

printf_like(1, 2) char *str_format(const char *format, ...); /* free with mem_free() */
printf_like(1, 0) char *str_vformat(const char *format, va_list args);

bool str_equal(const char *a, const char *b); /* two NULLs are equal */
bool str_has_prefix(const char *text, const char *prefix);
bool str_matches_glob(const char *text, const char *pattern); /* '*' and '?' only */

/* The whole of @text as an unsigned decimal, octal (0…) or hex (0x…) number.
 * -EINVAL: not a number, or something follows; -ERANGE: above @max. */
must_check int str_parse_u64(const char *text, uint64_t max, uint64_t *ret_value);

/* As above, with QEMU's size suffixes (B, K, M, G, T, P, E; powers of 1024; "1.5G" too). */
must_check int str_parse_size(const char *text, uint64_t *ret_bytes);

/* "on/yes/true/y" and "off/no/false/n". -EINVAL: neither. */
must_check int str_parse_bool(const char *text, bool *ret_value);

/* A name as QEMU wants ids: a letter, then letters, digits, '-', '.', '_'; at most 127 bytes. */
bool str_is_wellformed_id(const char *text);

/* How many letters must be put in, left out, replaced or swapped to make @a of @b ('-' and '_' are
 * one letter); SIZE_MAX: too many for a slip of the fingers. For "did you mean". */
size_t str_distance(const char *a, const char *b);

/* A growing string. Zero-initialise; text is NULL until something is added. */
struct strbuf {
    char *text; /* NUL-terminated */
    size_t bytes;
    size_t capacity;
};
void strbuf_add(struct strbuf *buf, const char *text, size_t bytes);
printf_like(2, 3) void strbuf_addf(struct strbuf *buf, const char *format, ...);
void strbuf_fini(struct strbuf *buf);

CTX_ANY_END
