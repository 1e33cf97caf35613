/*
 * fiber.h -- stacks that one thread switches between, for the simulator and the explorer: each
 * plays a thread of the program.
 *
 * A fiber may be left while a coroutine of the program runs on its behalf, on the coroutine's
 * stack; it goes on there. Switching makes no system call.
 */
#pragma once
#include "base/ctx.h"
#include <stddef.h>

CTX_ANY_BEGIN

struct fiber;
typedef void fiber_fn(void *opaque);

/* The calling thread's own stack as a fiber, to switch from and back to. */
struct fiber *fiber_of_thread(void);

/* A fiber that will call @fn when it is first switched to. @fn must not return: its last act is a
 * switch. */
struct fiber *fiber_new(fiber_fn *fn, void *opaque, size_t stack_bytes);

/* Not the one that runs. NULL is fine. */
void fiber_free(struct fiber *fiber);

/* Leave @from, which is the one that runs, until somebody switches to it. */
void fiber_switch(struct fiber *from, struct fiber *to);

CTX_ANY_END
