/*
 * mutex.h -- thread mutexes with a class. Held for a few instructions, never over a yield
 * (asserted). Classes are ordered: while one is held, only a class with a larger number may be
 * taken (asserted).
 */
#pragma once
#include "base/ctx.h"
#include "os/thread.h"

enum mutex_class {
    MUTEX_POOL,    /* loop/pool.c: queue of blocking calls */
    MUTEX_LOOPS,   /* loop/loop.c: table of loops */
    MUTEX_CO_LOCK, /* none at present: co/ uses short spins */
    MUTEX_LOG,
    MUTEX_CLASS_MAX_
};

struct TSA_(capability("mutex")) mutex {
    struct os_mutex os;
    enum mutex_class class;
};
#define MUTEX_INIT(mutex_class_) {.os = OS_MUTEX_INIT, .class = (mutex_class_)}

ANY_THREAD
void mutex_lock(struct mutex *mutex) ACQUIRES(*mutex);
ANY_THREAD
void mutex_unlock(struct mutex *mutex) RELEASES(*mutex);

/* By the calling thread. Inline, as it is asked at each yield (and before it, so the address of the
 * thread's storage is not kept over it). */
ANY_THREAD
static inline bool mutex_any_held(void)
{
#ifdef EXPLORE
    return os_tls_get(OS_TLS_MUTEXES) != NULL;
#else
    return os_tls[OS_TLS_MUTEXES] != NULL;
#endif
}
