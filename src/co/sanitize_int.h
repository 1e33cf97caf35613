/*
 * sanitize_int.h -- tell AddressSanitizer, ThreadSanitizer and Valgrind about stacks and switches.
 *
 * Without them every function here is empty. A switch is bracketed: *_leave() on the old stack just
 * before, *_arrive() on the new one just after.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"

#if defined(__has_feature)
#define CO_HAS_FEATURE_(x) __has_feature(x)
#else
#define CO_HAS_FEATURE_(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || CO_HAS_FEATURE_(address_sanitizer)
#define CO_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define CO_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || CO_HAS_FEATURE_(thread_sanitizer)
#define CO_TSAN 1
#include <sanitizer/tsan_interface.h>
#else
#define CO_TSAN 0
#endif
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define CO_VALGRIND 1
#endif
#endif
#ifndef CO_VALGRIND
#define CO_VALGRIND 0
#endif

/* Their frames are larger. */
#define CO_STACK_FACTOR (CO_ASAN || CO_TSAN ? 4 : 1)

/* What the tools know of one stack. Zero: the thread's own, not yet seen. */
struct co_stack_note {
#if CO_ASAN
    void *fake;         /* ASan's copies of locals, while the stack is left */
    const void *bottom; /* bounds */
    size_t bytes;
#endif
#if CO_TSAN
    void *fiber;
#endif
#if CO_VALGRIND
    unsigned valgrind_id;
#endif
    char unused;
};

CTX_ANY_BEGIN

static inline void co_note_mapped(struct co_stack_note *note, void *stack, size_t bytes)
{
#if CO_ASAN
    note->bottom = stack;
    note->bytes = bytes;
#endif
#if CO_TSAN
    note->fiber = __tsan_create_fiber(0);
#endif
#if CO_VALGRIND
    note->valgrind_id = VALGRIND_STACK_REGISTER(stack, (char *)stack + bytes);
#endif
}

static inline void co_note_unmapping(struct co_stack_note *note)
{
#if CO_ASAN
    __asan_unpoison_memory_region(note->bottom, note->bytes);
#endif
#if CO_TSAN
    __tsan_destroy_fiber(note->fiber);
#endif
#if CO_VALGRIND
    VALGRIND_STACK_DEREGISTER(note->valgrind_id);
#endif
}

/* The thread's own stack is about to be left for a coroutine's. */
static inline __attribute__((always_inline)) void co_note_outside(struct co_stack_note *note)
{
#if CO_TSAN
    note->fiber = __tsan_get_current_fiber();
#endif
}

/* About to go from @from to @to. @for_good: nobody comes back to @from. */
static inline __attribute__((always_inline)) void
co_note_leave(struct co_stack_note *from, struct co_stack_note *to, bool for_good)
{
#if CO_ASAN
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->fake, to->bottom, to->bytes);
#endif
#if CO_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
}

/* Arrived on @on, coming from @from (NULL: its bounds are known). */
static inline __attribute__((always_inline)) void co_note_arrive(struct co_stack_note *on,
                                                                 struct co_stack_note *from)
{
#if CO_ASAN
    __sanitizer_finish_switch_fiber(on->fake, from ? &from->bottom : NULL,
                                    from ? &from->bytes : NULL);
    on->fake = NULL;
#endif
}

CTX_ANY_END
