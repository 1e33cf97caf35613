/*
 * switch_int.h -- the switch itself: from one stack to another, in a few instructions.
 *
 * Inline, so that the compiler saves only what it has in registers just here; the place to go on at is
 * left on the stack and reached by an indirect jump (a `ret` would be predicted by the wrong stack's
 * calls). Floating-point control words are the program's, not the coroutine's, and stay.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(CO_SWITCH_UCONTEXT)
#define CO_SWITCH_ASM 1
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

#if CO_SWITCH_ASM
/* The first switch to @context calls @entry, which never returns, on [@stack, @stack + @bytes). */
static inline void co_context_make(struct co_context *context, void *stack, size_t bytes,
                                   void (*entry)(void))
{
    uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
    uintptr_t *sp = (uintptr_t *)top;

#if defined(__x86_64__)
    *--sp = 0; /* the return address of the first frame: where a debugger's walk ends */
    *--sp = (uintptr_t)entry;
#else
    *--sp = (uintptr_t)entry;
    *--sp = 0; /* frame pointer */
#endif
    context->sp = sp;
}
#endif

#if CO_SWITCH_ASM && defined(__x86_64__)
static inline __attribute__((always_inline)) void co_context_switch(struct co_context *from,
                                                                    struct co_context *to)
{
    void **save = &from->sp;
    void *sp = to->sp;

    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t" /* the caller's red zone */
                     "pushq %%rbp\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "movq %%rsp, (%[save])\n\t"
                     "movq %[sp], %%rsp\n\t"
                     "popq %%rax\n\t"
                     "jmpq *%%rax\n\t"
                     "1:\n\t"
                     "endbr64\n\t"
                     "popq %%rbp\n\t"
                     "leaq 128(%%rsp), %%rsp\n\t"
                     : [save] "+D"(save), [sp] "+S"(sp)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                       "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
#ifdef __AVX512F__
                       "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
                       "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31",
                       "k1", "k2", "k3", "k4", "k5", "k6", "k7",
#endif
                       "memory", "cc");
}
#elif CO_SWITCH_ASM
static inline __attribute__((always_inline)) void co_context_switch(struct co_context *from,
                                                                    struct co_context *to)
{
    register void **save __asm__("x0") = &from->sp;
    register void *sp __asm__("x1") = to->sp;

    __asm__ volatile("adr x16, 1f\n\t"
                     "stp x29, x16, [sp, #-16]!\n\t"
                     "mov x17, sp\n\t"
                     "str x17, [x0]\n\t"
                     "mov sp, x1\n\t"
                     "ldp x29, x16, [sp], #16\n\t"
                     "br x16\n\t"
                     "1:\n\t"
                     "hint #36\n\t" /* bti j */
                     : "+r"(save), "+r"(sp)
                     :
                     : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
                       "x14", "x15", "x16", "x17", "x19", "x20", "x21", "x22", "x23", "x24", "x25",
                       "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7",
                       "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18",
                       "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29",
                       "v30", "v31", "memory", "cc");
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
