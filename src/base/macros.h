/* macros.h -- the few macros everything uses. */
#pragma once
#include "base/ctx.h"
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#define countof(array) (sizeof(array) / sizeof((array)[0]))

#define container_of(ptr, type, member)                                                            \
    ((type *)((char *)(ptr)-offsetof(type, member) +                                               \
              0 * sizeof((ptr) == &((type *)(uintptr_t)8)->member)))

#define min_of(a, b) ((a) < (b) ? (a) : (b))
#define max_of(a, b) ((a) > (b) ? (a) : (b))

#define printf_like(text, first) __attribute__((format(printf, text, first)))
#define no_return __attribute__((noreturn))
#define no_inline __attribute__((noinline)) /* keeps its frame out of its callers' */
#define must_check __attribute__((warn_unused_result))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Control never comes here: our bug if it does, also in release. */
#define unreachable() panic("%s:%d: unreachable", __FILE__, __LINE__)

/* Scope-bound ownership: AUTO(foo) struct foo *x; releases x with foo_free() at the end of the
 * scope. DEFINE_AUTO(foo) makes that known for a type with a NULL-tolerant foo_free(). */
#define AUTO(type) __attribute__((cleanup(type##_auto_free)))
#define DEFINE_AUTO(type)                                                                          \
    static inline void type##_auto_free(struct type **pointer)                                     \
    {                                                                                              \
        type##_free(*pointer);                                                                     \
    }
#define AUTO_MEM __attribute__((cleanup(mem_auto_free))) /* for mem_alloc()ed pointers */

/* Give a pointer away: yields its value and leaves NULL behind. */
#define take(pointer)                                                                              \
    ({                                                                                             \
        __typeof__(*(pointer)) taken_ = *(pointer);                                                \
        *(pointer) = NULL;                                                                         \
        taken_;                                                                                    \
    })

/* Print the message to standard error and abort(). For broken promises of our own only. */
ANY_THREAD
no_return printf_like(1, 2) void panic(const char *format, ...);
