/*
 * mem.h -- heap memory.
 *
 * mem_alloc() and its kin never return NULL: a daemon that cannot get a few hundred bytes cannot
 * report that either, so it panics. Sizes that a user or a guest chooses go to mem_try_alloc().
 * The I/O path calls none of these.
 */
#pragma once
#include "base/macros.h"
#include "base/ctx.h"

CTX_ANY_BEGIN

/* All return zeroed memory; release with mem_free(). Any thread. */
void *mem_alloc(size_t bytes);
void *mem_alloc_array(size_t count, size_t bytes_each); /* panics when the product overflows */
void *mem_realloc(void *memory, size_t bytes);          /* new bytes are not zeroed */
char *mem_strdup(const char *text);                     /* NULL gives NULL */
must_check void *mem_try_alloc(size_t bytes);           /* NULL: not to be had */

/* Zeroed, aligned to @alignment (a power of two). NULL: not to be had. Release with mem_free(). */
must_check void *mem_try_alloc_aligned(size_t alignment, size_t bytes);

void mem_free(void *memory); /* NULL is fine */

#define mem_new(type) ((type *)mem_alloc(sizeof(type)))

static inline void mem_auto_free(void *pointer_to_pointer)
{
    mem_free(*(void **)pointer_to_pointer);
}

/* Test hook: the n-th mem_try_* call from now on fails (0: none). Any thread, tests only. */
void mem_fail_nth(unsigned n);

CTX_ANY_END
