#include "base/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned fail_countdown; /* mem_fail_nth(); tests only */

void panic(const char *format, ...)
{
    va_list args;

    fputs("caisson: internal error: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

static bool told_to_fail(void)
{
    return fail_countdown != 0 && --fail_countdown == 0;
}

void mem_fail_nth(unsigned n)
{
    fail_countdown = n;
}

void *mem_alloc(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);

    if (memory == NULL) {
        panic("out of memory (%zu bytes)", bytes);
    }
    return memory;
}

void *mem_alloc_array(size_t count, size_t bytes_each)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, bytes_each, &bytes)) {
        panic("array of %zu times %zu bytes", count, bytes_each);
    }
    return mem_alloc(bytes);
}

void *mem_realloc(void *memory, size_t bytes)
{
    void *moved = realloc(memory, bytes ? bytes : 1);

    if (moved == NULL) {
        panic("out of memory (%zu bytes)", bytes);
    }
    return moved;
}

char *mem_strdup(const char *text)
{
    size_t bytes;
    char *copy;

    if (text == NULL) {
        return NULL;
    }
    bytes = strlen(text) + 1;
    copy = mem_alloc(bytes);
    memcpy(copy, text, bytes);
    return copy;
}

void *mem_try_alloc(size_t bytes)
{
    return told_to_fail() ? NULL : calloc(1, bytes ? bytes : 1);
}

void *mem_try_alloc_aligned(size_t alignment, size_t bytes)
{
    void *memory;

    assert(alignment != 0 && (alignment & (alignment - 1)) == 0);
    if (told_to_fail() || posix_memalign(&memory, max_of(alignment, sizeof(void *)), bytes) != 0) {
        return NULL;
    }
    memset(memory, 0, bytes);
    return memory;
}

void mem_free(void *memory)
{
    free(memory);
}
