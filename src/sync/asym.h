/*
 * asym.h -- a fence pair that is free on the common side.
 *
 * Either the light side's store is seen by the heavy side, or the heavy side's store is seen by the
 * light side (store buffering, "Dekker"), as if both had a full fence. The heavy side is
 * membarrier(2) where the kernel grants it; elsewhere, under TSan and in the explorer both are
 * full.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include "sync/atomic.h"

extern bool asym_is_cheap; /* set once, by asym_init() */

/* Before the first loop. */
ANY_THREAD
void asym_init(void);

/* Between my store and my load. */
ANY_THREAD
static inline void asym_light(void)
{
#if defined(EXPLORE)
    at_compiler_fence(); /* the explorer holds my store back on purpose */
#elif defined(__SANITIZE_THREAD__) || defined(CAISSON_TSAN)
    at_fence();
#else
    if (likely(asym_is_cheap)) {
        at_compiler_fence();
    } else {
        at_fence();
    }
#endif
}

/* A fence on every thread of the process. A few microseconds. */
ANY_THREAD
void asym_heavy(void);
