/*
 * thread.c -- threads, their local storage, mutex and condition variable.
 *
 * A thread starts with every signal blocked but those the processor raises (a blocked SIGBUS would
 * kill at the first access to memory that its owner took away, see memory.c).
 */
#include "os/thread.h"
#include "base/mem.h"
#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Thread_local void *os_tls[OS_TLS_MAX_];

/* Not inlined: a coroutine may continue on another thread, whose array lies elsewhere. */
__attribute__((noinline)) void *os_tls_get(enum os_tls_slot slot)
{
    void *value = os_tls[slot];

    __asm__ volatile("" : "+r"(value) : : "memory"); /* nor may a caller merge two calls */
    return value;
}

__attribute__((noinline)) void os_tls_set(enum os_tls_slot slot, void *value)
{
    os_tls[slot] = value;
    __asm__ volatile("" : : : "memory");
}

struct os_thread {
    pthread_t real;
    BLOCKING_SLOT os_thread_fn *fn;
    void *opaque;
    char name[16];
};

static void check(int errnum, const char *what)
{
    if (unlikely(errnum != 0)) {
        panic("%s: %s", what, strerror(errnum));
    }
}

static void *thread_main(void *opaque)
{
    struct os_thread *thread = opaque;

    pthread_setname_np(pthread_self(), thread->name);
    os_tls_set(OS_TLS_THREAD, thread);
    thread->fn(thread->opaque);
    return NULL;
}

static void fill_asynchronous_signals(sigset_t *set)
{
    static const int synchronous[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

    sigfillset(set);
    for (size_t i = 0; i < countof(synchronous); i++) {
        sigdelset(set, synchronous[i]);
    }
}

struct os_thread *os_thread_start(const char *name, os_thread_fn *fn, void *opaque)
{
    struct os_thread *thread = mem_new(struct os_thread);
    sigset_t blocked, before;

    thread->fn = fn;
    thread->opaque = opaque;
    snprintf(thread->name, sizeof(thread->name), "%s", name);
    fill_asynchronous_signals(&blocked);
    check(pthread_sigmask(SIG_BLOCK, &blocked, &before), "pthread_sigmask");
    check(pthread_create(&thread->real, NULL, thread_main, thread), "pthread_create");
    check(pthread_sigmask(SIG_SETMASK, &before, NULL), "pthread_sigmask");
    return thread;
}

static_assert(sizeof(sigset_t) <= sizeof(struct os_signal_mask), "a signal set");

void os_signals_block(struct os_signal_mask *ret_before)
{
    sigset_t all;

    sigfillset(&all);
    check(pthread_sigmask(SIG_BLOCK, &all, (sigset_t *)ret_before->words), "pthread_sigmask");
}

void os_signals_restore(const struct os_signal_mask *before)
{
    check(pthread_sigmask(SIG_SETMASK, (const sigset_t *)before->words, NULL), "pthread_sigmask");
}

void os_thread_join(struct os_thread *thread)
{
    check(pthread_join(thread->real, NULL), "pthread_join");
    mem_free(thread);
}

long os_thread_id(void)
{
    return syscall(SYS_gettid);
}

int os_cpu_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        return CPU_COUNT(&set);
    }
    return (int)max_of(1L, sysconf(_SC_NPROCESSORS_ONLN)); /* more than 1024 of them */
}

void os_mutex_lock(struct os_mutex *mutex)
{
    check(pthread_mutex_lock(&mutex->real), "pthread_mutex_lock");
}

void os_mutex_unlock(struct os_mutex *mutex)
{
    check(pthread_mutex_unlock(&mutex->real), "pthread_mutex_unlock");
}

void os_cond_wait(struct os_cond *cond, struct os_mutex *mutex)
{
    check(pthread_cond_wait(&cond->real, &mutex->real), "pthread_cond_wait");
}

/* @timeout_ns from now as a point of the monotonic clock; far away for values that do not fit. */
static struct timespec deadline_of(uint64_t timeout_ns)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    timeout_ns = min_of(timeout_ns, (uint64_t)INT64_MAX) + (uint64_t)now.tv_nsec;
    now.tv_sec += (time_t)(timeout_ns / 1000000000);
    now.tv_nsec = (long)(timeout_ns % 1000000000);
    return now;
}

bool os_cond_wait_for(struct os_cond *cond, struct os_mutex *mutex, uint64_t timeout_ns)
{
    struct timespec deadline = deadline_of(timeout_ns);
    int rc = pthread_cond_clockwait(&cond->real, &mutex->real, CLOCK_MONOTONIC, &deadline);

    if (rc == ETIMEDOUT) {
        return false;
    }
    check(rc, "pthread_cond_clockwait");
    return true;
}

void os_cond_signal(struct os_cond *cond)
{
    check(pthread_cond_signal(&cond->real), "pthread_cond_signal");
}

void os_cond_broadcast(struct os_cond *cond)
{
    check(pthread_cond_broadcast(&cond->real), "pthread_cond_broadcast");
}

int os_membarrier_register(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) < 0) {
        return -errno;
    }
    return 0;
}

void os_membarrier(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) < 0) {
        panic("membarrier: %s", strerror(errno)); /* it was granted when we registered */
    }
}
