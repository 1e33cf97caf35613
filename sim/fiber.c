/*
 * fiber.c -- the switch is a few instructions on x86-64 and ucontext elsewhere.
 *
 * AddressSanitizer is told of each: it answers with the bounds of the stack that was left (a
 * coroutine's perhaps), and they are kept until that fiber goes on.
 */
#include "sim/fiber.h"
#include "base/mem.h"
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#define FIBER_ASAN 1
#include <sanitizer/common_interface_defs.h>
#else
#define FIBER_ASAN 0
#endif

#if defined(__x86_64__)
#define FIBER_ASM 1
#else
#define FIBER_ASM 0
#include <ucontext.h>
#endif

struct fiber {
#if FIBER_ASM
    void *sp;
#else
    ucontext_t context;
#endif
    fiber_fn *fn;
    void *opaque;
    void *stack; /* lowest usable byte; NULL: the thread's own */
    size_t bytes;
    const void *left_bottom; /* of the stack it was left on */
    size_t left_bytes;
    void *fake_stack;
};

static struct fiber *arriving, *leaving; /* of the switch under way; one thread uses fibers */

#if FIBER_ASM
void fiber_swap(void **ret_sp, void *sp);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl fiber_swap\n"
        ".type fiber_swap, @function\n"
        "fiber_swap:\n\t"
        "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq %rsi, %rsp\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\t"
        "ret\n"
        ".size fiber_swap, . - fiber_swap\n");
#endif

static void after_switch(void)
{
#if FIBER_ASAN
    __sanitizer_finish_switch_fiber(arriving->fake_stack, &leaving->left_bottom,
                                    &leaving->left_bytes);
#endif
}

static void entry(void)
{
    struct fiber *self = arriving;

    after_switch();
    self->fn(self->opaque);
    panic("a fiber's function has returned");
}

struct fiber *fiber_of_thread(void)
{
    return mem_new(struct fiber);
}

static void make_context(struct fiber *fiber)
{
#if FIBER_ASM
    uintptr_t *sp = (uintptr_t *)(((uintptr_t)fiber->stack + fiber->bytes) & ~(uintptr_t)15);

    *--sp = 0; /* the return address of the first frame */
    *--sp = (uintptr_t)entry;
    sp -= 6; /* the registers; zero */
    fiber->sp = sp;
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = fiber->bytes;
    makecontext(&fiber->context, entry, 0);
#endif
}

struct fiber *fiber_new(fiber_fn *fn, void *opaque, size_t stack_bytes)
{
    struct fiber *fiber = mem_new(struct fiber);
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, stack_bytes + guard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) < 0) {
        panic("no stack for a fiber");
    }
    fiber->fn = fn;
    fiber->opaque = opaque;
    fiber->stack = memory + guard;
    fiber->bytes = stack_bytes;
    fiber->left_bottom = fiber->stack;
    fiber->left_bytes = stack_bytes;
    make_context(fiber);
    return fiber;
}

void fiber_free(struct fiber *fiber)
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);

    if (fiber != NULL && fiber->stack != NULL) {
        munmap((char *)fiber->stack - guard, fiber->bytes + guard);
    }
    mem_free(fiber);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    leaving = from;
    arriving = to;
#if FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->left_bottom, to->left_bytes);
#endif
#if FIBER_ASM
    fiber_swap(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
    after_switch();
}
