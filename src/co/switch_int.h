/*
 * switch_int.h -- the switch itself: from one stack to another, in a few instructions.
 *
 * co_context_switch() is called like a function and comes back like one, but not by `ret`: the
 * processor predicts a `ret` from the calls it has seen, which were another stack's, and a wrong
 * guess costs more than the rest (12 ns against 3, measured). It pops the return address and jumps.
 * For the same reason its callers call it last and have nothing to do afterwards (a compiler makes
 * that a jump): then nobody returns by `ret` from where another stack was entered.
 *
 * Floating-point control words are the program's, not the coroutine's, and stay.
 */
#pragma once
#include "base/ctx.h"
#include <stddef.h>
#include <stdint.h>

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(CO_SWITCH_UCONTEXT)
#define CO_SWITCH_ASM 1
#if defined(__x86_64__)
#define CO_SWITCH_SAVED 6 /* words below the return address: rbx, rbp, r12 to r15 */
#else
#define CO_SWITCH_SAVED 19 /* d8 to d15, x19 to x29 */
#endif
#else
#define CO_SWITCH_ASM 0
#include <ucontext.h>
#endif

struct co_context {
#if CO_SWITCH_ASM
    void *sp;
#else
    ucontext_t ucontext;
#endif
};

CTX_ANY_BEGIN

#if CO_SWITCH_ASM
/* switch_asm.c. Store the place to go on at in *@save, go on at @sp. */
void co_switch_asm(void **save, void *sp);

/* The first switch to @context calls @entry, which never returns, on [@stack, @stack + @bytes). */
static inline void co_context_make(struct co_context *context, void *stack, size_t bytes,
                                   void (*entry)(void))
{
    uintptr_t *sp = (uintptr_t *)(((uintptr_t)stack + bytes) & ~(uintptr_t)15);

    *--sp = 0; /* where a debugger's walk ends */
    *--sp = 0;
    *--sp = 0; /* as on entry to a called function: return address, then 16-byte aligned */
    *--sp = (uintptr_t)entry;
    for (unsigned i = 0; i < CO_SWITCH_SAVED; i++) {
        *--sp = 0;
    }
    context->sp = sp;
}

static inline __attribute__((always_inline)) void co_context_switch(struct co_context *from,
                                                                    struct co_context *to)
{
    co_switch_asm(&from->sp, to->sp);
}
#else
static inline void co_context_make(struct co_context *context, void *stack, size_t bytes,
                                   void (*entry)(void))
{
    getcontext(&context->ucontext);
    context->ucontext.uc_stack.ss_sp = stack;
    context->ucontext.uc_stack.ss_size = bytes;
    context->ucontext.uc_link = NULL;
    makecontext(&context->ucontext, entry, 0);
}

static inline void co_context_switch(struct co_context *from, struct co_context *to)
{
    swapcontext(&from->ucontext, &to->ucontext);
}
#endif

CTX_ANY_END
