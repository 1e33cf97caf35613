/*
 * thread.h -- threads, their local storage, and the two primitives a thread may block on.
 *
 * Only worker-pool threads, RCU's helper, start-up and exit block here; a loop never does.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include <pthread.h>

/*
 * Thread-local storage: all of the program's is in this one array, so that the simulator can switch
 * "threads" by switching its content. Read it through os_tls_get(): a compiler must not keep its
 * address over a coroutine's yield.
 */
enum os_tls_slot { OS_TLS_CO, OS_TLS_CO_POOL, OS_TLS_LOOP, OS_TLS_RCU, OS_TLS_MUTEXES,
                   OS_TLS_THREAD, OS_TLS_LOOP_INDEX, OS_TLS_MAX_ };
extern _Thread_local void *os_tls[OS_TLS_MAX_];
ANY_THREAD
void *os_tls_get(enum os_tls_slot slot);
ANY_THREAD
void os_tls_set(enum os_tls_slot slot, void *value);

/* As os_tls_get(), without the call: for functions that are not inlined and in which nothing comes
 * after a yield. */
ANY_THREAD
static inline void *os_tls_here(enum os_tls_slot slot)
{
#ifdef EXPLORE
    return os_tls_get(slot);
#else
    return os_tls[slot];
#endif
}

struct os_thread;
typedef void os_thread_fn(void *opaque);

/* Signals are blocked in the new thread. Never fails: panics. @name at most 15 bytes. */
ANY_THREAD
struct os_thread *os_thread_start(const char *name, os_thread_fn *fn, void *opaque);
BLOCKING
void os_thread_join(struct os_thread *thread); /* and free */
/* Block every signal in this thread while a library starts one of its own, which inherits that. */
struct os_signal_mask {
    uint64_t words[16];
};
ANY_THREAD
void os_signals_block(struct os_signal_mask *ret_before);
ANY_THREAD
void os_signals_restore(const struct os_signal_mask *before);
ANY_THREAD
long os_thread_id(void); /* the kernel's id of the calling thread */
ANY_THREAD
int os_cpu_count(void);

struct os_mutex {
    pthread_mutex_t real;
    void *sim;
};
struct os_cond {
    pthread_cond_t real;
    void *sim;
};
#define OS_MUTEX_INIT {.real = PTHREAD_MUTEX_INITIALIZER}
#define OS_COND_INIT {.real = PTHREAD_COND_INITIALIZER}
ANY_THREAD
void os_mutex_lock(struct os_mutex *mutex);
ANY_THREAD
void os_mutex_unlock(struct os_mutex *mutex);
BLOCKING
void os_cond_wait(struct os_cond *cond, struct os_mutex *mutex);
/* @timeout_ns from now; false: timed out. */
BLOCKING
bool os_cond_wait_for(struct os_cond *cond, struct os_mutex *mutex, uint64_t timeout_ns);
ANY_THREAD
void os_cond_signal(struct os_cond *cond);
ANY_THREAD
void os_cond_broadcast(struct os_cond *cond);

/* membarrier(2), private expedited. -errno where it is refused; then use full fences on both
 * sides. */
ANY_THREAD
int os_membarrier_register(void);
ANY_THREAD
void os_membarrier(void);
