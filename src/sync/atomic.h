/*
 * atomic.h -- the only place that spells __atomic.
 *
 * Without a suffix: sequentially consistent. Anything weaker names at its use the line it pairs
 * with and has a test in test/explore. With -DEXPLORE each access is a switch point of the
 * explorer; the explorer is sequentially consistent but for at_store_buffered(), whose store it may
 * delay until the thread's next full fence (that is what asym_light() leaves out). Any thread.
 */
#pragma once
#include "base/ctx.h"

#ifdef EXPLORE
#include "explore_point.h"
#define AT_POINT_(what, p) explore_point(what, p)
#else
#define AT_POINT_(what, p) ((void)0)
#endif

#define at_load(p) (AT_POINT_("load", p), __atomic_load_n(p, __ATOMIC_SEQ_CST))
#define at_load_acquire(p) (AT_POINT_("load", p), __atomic_load_n(p, __ATOMIC_ACQUIRE))
#define at_load_relaxed(p) (AT_POINT_("load", p), __atomic_load_n(p, __ATOMIC_RELAXED))
#define at_store(p, v) (AT_POINT_("store", p), __atomic_store_n(p, v, __ATOMIC_SEQ_CST))
#define at_store_release(p, v)                                                                     \
    (AT_POINT_("store-release", p), __atomic_store_n(p, v, __ATOMIC_RELEASE))
#define at_store_relaxed(p, v)                                                                     \
    (AT_POINT_("store-relaxed", p), __atomic_store_n(p, v, __ATOMIC_RELAXED))
#define at_xchg(p, v) (AT_POINT_("xchg", p), __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST))
/* The next four return the old value. */
#define at_add(p, v) (AT_POINT_("add", p), __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST))
#define at_sub(p, v) (AT_POINT_("sub", p), __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST))
#define at_or(p, v) (AT_POINT_("or", p), __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST))
#define at_and(p, v) (AT_POINT_("and", p), __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST))

/* If *@p is *@expected, make it @v and return true; else put what it is into *@expected. */
#define at_cas(p, expected, v)                                                                     \
    (AT_POINT_("cas", p), __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST,     \
                                                      __ATOMIC_SEQ_CST))

#ifdef CAISSON_TSAN
/* The thread sanitizer does not know fences; an exchange on one place orders at least as much. */
extern char at_fence_place; /* asym.c */
#define at_fence() ((void)__atomic_exchange_n(&at_fence_place, 0, __ATOMIC_SEQ_CST))
#else
#define at_fence() (AT_POINT_("fence", 0), __atomic_thread_fence(__ATOMIC_SEQ_CST))
#endif
#define at_compiler_fence() __asm__ volatile("" ::: "memory")

/* A uint64_t store (16: a uint16_t one) that the explorer may hold in a store buffer until the
 * actor's next fence or read-modify-write (the release form until those before it have left, at
 * least). Elsewhere a relaxed store, or a release. */
#ifdef EXPLORE
#define at_store_buffered(p, v) explore_store_buffered(p, v)
#define at_store_release_buffered(p, v) explore_store_release_buffered(p, v)
#define at_store16_buffered(p, v) explore_store16_buffered(p, v)
#define at_store16_release_buffered(p, v) explore_store16_release_buffered(p, v)
#define at_load_buffered(p) explore_load_buffered(p)
#define at_load_acquire_buffered(p) explore_load_buffered(p)
#else
#define at_store_buffered(p, v) at_store_relaxed(p, v)
#define at_store_release_buffered(p, v) at_store_release(p, v)
#define at_store16_buffered(p, v) at_store_relaxed(p, v)
#define at_store16_release_buffered(p, v) at_store_release(p, v)
#define at_load_buffered(p) at_load_relaxed(p)
#define at_load_acquire_buffered(p) at_load_acquire(p)
#endif

/* One spin of a busy wait. */
ANY_THREAD
static inline void at_relax(void)
{
#if defined(EXPLORE)
    explore_relax();
#elif defined(__x86_64__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
