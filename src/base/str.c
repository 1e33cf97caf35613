#include "base/str.h"
#include "base/mem.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *str_vformat(const char *format, va_list args)
{
    va_list again;
    int bytes;
    char *text;

    va_copy(again, args);
    bytes = vsnprintf(NULL, 0, format, again);
    va_end(again);
    assert(bytes >= 0);
    text = mem_alloc((size_t)bytes + 1);
    vsnprintf(text, (size_t)bytes + 1, format, args);
    return text;
}

char *str_format(const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = str_vformat(format, args);
    va_end(args);
    return text;
}

bool str_equal(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool str_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool str_matches_glob(const char *text, const char *pattern)
{
    const char *star = NULL;
    const char *resume = NULL;

    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

int str_parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end;
    unsigned long long value;

    if (!isdigit((unsigned char)text[0])) {
        return -EINVAL;
    }
    errno = 0;
    value = strtoull(text, &end, 0);
    if (*end != '\0' || end == text) {
        return -EINVAL;
    }
    if (errno == ERANGE || value > max) {
        return -ERANGE;
    }
    *ret_value = value;
    return 0;
}

static int size_suffix_shift(char suffix)
{
    static const char suffixes[] = "bkmgtpe";
    const char *at = suffix != '\0' ? strchr(suffixes, tolower((unsigned char)suffix)) : NULL;

    return at == NULL ? -1 : (int)(at - suffixes) * 10;
}

int str_parse_size(const char *text, uint64_t *ret_bytes)
{
    unsigned long long whole;
    double fraction = 0;
    char *end;
    int shift = 0;

    if (!isdigit((unsigned char)text[0])) {
        return -EINVAL;
    }
    errno = 0;
    whole =
        strtoull(text, &end, text[0] == '0' && tolower((unsigned char)text[1]) == 'x' ? 16 : 10);
    if (errno == ERANGE) {
        return -ERANGE;
    }
    if (*end == '.') {
        char *dot = end;

        if (!isdigit((unsigned char)dot[1])) {
            return -EINVAL;
        }
        fraction = strtod(dot, &end);
    }
    if (*end != '\0') {
        shift = size_suffix_shift(*end++);
        if (shift < 0 || *end != '\0') {
            return -EINVAL;
        }
    }
    if (fraction != 0 && shift == 0) {
        return -EINVAL; /* half a byte */
    }
    if (shift != 0 && whole >> (64 - shift) != 0) {
        return -ERANGE;
    }
    *ret_bytes = ((uint64_t)whole << shift) + (uint64_t)(fraction * (double)(1ULL << shift));
    return 0;
}

int str_parse_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"on", "yes", "true", "y"};
    static const char *const no[] = {"off", "no", "false", "n"};

    for (size_t i = 0; i < countof(yes); i++) {
        if (strcmp(text, yes[i]) == 0) {
            *ret_value = true;
            return 0;
        }
        if (strcmp(text, no[i]) == 0) {
            *ret_value = false;
            return 0;
        }
    }
    return -EINVAL;
}

bool str_is_wellformed_id(const char *text)
{
    size_t bytes = strlen(text);

    if (bytes == 0 || bytes > 127 || !isalpha((unsigned char)text[0])) {
        return false;
    }
    for (size_t i = 1; i < bytes; i++) {
        if (!isalnum((unsigned char)text[i]) && strchr("-._", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

enum { DISTANCE_BYTES_MAX = 64 };

static char folded(char c)
{
    return c == '_' ? '-' : c;
}

/* The cheapest way to make the first @i letters of @a the first @j of @b, when rows[0] and rows[1]
 * hold those for i - 2 and i - 1 letters. */
static size_t cheapest(const char *a, size_t i, const char *b, size_t j,
                       size_t rows[3][DISTANCE_BYTES_MAX + 1])
{
    bool same = folded(a[i - 1]) == folded(b[j - 1]);
    size_t best = min_of(rows[1][j - 1] + !same, min_of(rows[1][j], rows[2][j - 1]) + 1);

    if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
        folded(a[i - 2]) == folded(b[j - 1])) {
        best = min_of(best, rows[0][j - 2] + 1); /* two swapped */
    }
    return best;
}

static size_t edit_distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t rows[3][DISTANCE_BYTES_MAX + 1] = {{0}};

    for (size_t j = 0; j <= b_bytes; j++) {
        rows[2][j] = j;
    }
    for (size_t i = 1; i <= a_bytes; i++) {
        memcpy(rows[0], rows[1], sizeof(rows[0]));
        memcpy(rows[1], rows[2], sizeof(rows[1]));
        rows[2][0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            rows[2][j] = cheapest(a, i, b, j, rows);
        }
    }
    return rows[2][b_bytes];
}

size_t str_distance(const char *a, const char *b)
{
    size_t a_bytes = strlen(a);
    size_t b_bytes = strlen(b);
    size_t shorter = min_of(a_bytes, b_bytes);
    size_t distance;

    if (max_of(a_bytes, b_bytes) > DISTANCE_BYTES_MAX) {
        return SIZE_MAX;
    }
    distance = edit_distance(a, a_bytes, b, b_bytes);
    return distance <= 1 + shorter / 4 && distance < shorter ? distance : SIZE_MAX;
}

void strbuf_add(struct strbuf *buf, const char *text, size_t bytes)
{
    if (buf->bytes + bytes + 1 > buf->capacity) {
        buf->capacity = max_of(buf->capacity * 2, buf->bytes + bytes + 1);
        buf->text = mem_realloc(buf->text, buf->capacity);
    }
    memcpy(buf->text + buf->bytes, text, bytes);
    buf->bytes += bytes;
    buf->text[buf->bytes] = '\0';
}

void strbuf_addf(struct strbuf *buf, const char *format, ...)
{
    AUTO_MEM char *text = NULL;
    va_list args;

    va_start(args, format);
    text = str_vformat(format, args);
    va_end(args);
    strbuf_add(buf, text, strlen(text));
}

void strbuf_fini(struct strbuf *buf)
{
    mem_free(buf->text);
    *buf = (struct strbuf){0};
}
