/*
 * explore_home.h -- a home for coroutines in a scenario: the smallest loop there can be. An actor
 * runs it; any actor may wake a coroutine of it. Scenarios of loop/ bring the real one instead.
 */
#pragma once
#include "base/ctx.h"
#include "co/co.h"

CTX_ANY_BEGIN

struct explore_home {
    struct co_sched sched;
    struct co *ready, **ready_end;
};

void explore_home_init(struct explore_home *home);

/* A coroutine that begins in @home. */
void explore_home_spawn(struct explore_home *home, co_fn *fn, void *opaque, const char *name);

/* Called by an actor: run what is ready here until @is_over; wait in between. Then give the pooled
 * stacks back. */
void explore_home_run(struct explore_home *home, bool (*is_over)(void *opaque), void *opaque);

CTX_ANY_END
