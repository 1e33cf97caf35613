/* twin_os.c -- os/ as the explorer's actors see it. */
#include "explore.h"
#include "explore_os.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/thread.h"
#include "os/time.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FIRST_FD = 1000, FDS_MAX = 32, STACKS_MAX = 64 };

static void *storage[EXPLORE_ACTORS_MAX + 1][OS_TLS_MAX_]; /* [0]: setup and check */

static struct {
    bool is_open, signalled;
    unsigned writes;
} eventfds[FDS_MAX];

/* Stacks are handed out again in the next schedule, whatever became of their users. */
static struct {
    void *address;
    size_t bytes;
    bool in_use;
} stacks[STACKS_MAX];

static uint64_t clock_ns;

static void reset(void)
{
    memset(storage, 0, sizeof(storage));
    memset(eventfds, 0, sizeof(eventfds));
    for (unsigned i = 0; i < STACKS_MAX; i++) {
        stacks[i].in_use = false;
    }
    clock_ns = 1000000000;
}

__attribute__((constructor)) static void init(void)
{
    explore_at_reset(reset);
}

/* ---- threads ---- */

void *os_tls_get(enum os_tls_slot slot)
{
    return storage[explore_self() + 1][slot];
}

void os_tls_set(enum os_tls_slot slot, void *value)
{
    storage[explore_self() + 1][slot] = value;
}

struct os_thread *os_thread_start(const char *name, os_thread_fn *fn, void *opaque)
{
    explore_step("thread-start");
    return (struct os_thread *)(uintptr_t)(explore_spawn(fn, opaque, false) + 1);
}

static bool thread_has_ended(void *opaque)
{
    return explore_is_done((unsigned)(uintptr_t)opaque - 1);
}

void os_thread_join(struct os_thread *thread)
{
    explore_wait(thread_has_ended, thread, "thread-join");
}

long os_thread_id(void)
{
    return explore_self() + 1;
}

int os_cpu_count(void)
{
    return 2;
}

static bool mutex_is_free(void *opaque)
{
    return ((struct os_mutex *)opaque)->sim == NULL;
}

void os_mutex_lock(struct os_mutex *mutex)
{
    explore_wait(mutex_is_free, mutex, "mutex-lock");
    mutex->sim = (void *)(uintptr_t)(explore_self() + 2);
}

void os_mutex_unlock(struct os_mutex *mutex)
{
    explore_step("mutex-unlock");
    explore_check(mutex->sim == (void *)(uintptr_t)(explore_self() + 2));
    mutex->sim = NULL;
}

struct waiter {
    struct waiter *next;
    bool signalled;
};

static bool is_signalled(void *opaque)
{
    return ((struct waiter *)opaque)->signalled;
}

static void enqueue(struct os_cond *cond, struct waiter *waiter)
{
    struct waiter **end = (struct waiter **)&cond->sim;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = waiter;
}

static void dequeue(struct os_cond *cond, struct waiter *waiter)
{
    struct waiter **link = (struct waiter **)&cond->sim;

    while (*link != NULL && *link != waiter) {
        link = &(*link)->next;
    }
    if (*link == waiter) {
        *link = waiter->next;
    }
}

void os_cond_wait(struct os_cond *cond, struct os_mutex *mutex)
{
    struct waiter waiter = {0};

    enqueue(cond, &waiter);
    os_mutex_unlock(mutex);
    explore_wait(is_signalled, &waiter, "cond-wait");
    os_mutex_lock(mutex);
}

/* Both happen: that the time runs out, as soon as the actor's turn comes, and that it never
 * does. */
bool os_cond_wait_for(struct os_cond *cond, struct os_mutex *mutex, uint64_t timeout_ns)
{
    struct waiter waiter = {0};

    enqueue(cond, &waiter);
    os_mutex_unlock(mutex);
    if (explore_choose(2, "time-out") == 0) {
        explore_wait(is_signalled, &waiter, "cond-wait");
    } else {
        explore_step("cond-wait");
        dequeue(cond, &waiter);
        clock_ns += timeout_ns;
    }
    os_mutex_lock(mutex);
    return waiter.signalled;
}

static bool wake_first(struct os_cond *cond)
{
    struct waiter *waiter = cond->sim;

    if (waiter == NULL) {
        return false;
    }
    cond->sim = waiter->next;
    waiter->signalled = true;
    return true;
}

void os_cond_signal(struct os_cond *cond)
{
    explore_step("cond-signal");
    wake_first(cond);
}

void os_cond_broadcast(struct os_cond *cond)
{
    explore_step("cond-broadcast");
    while (wake_first(cond)) {
    }
}

int os_membarrier_register(void)
{
    return 0;
}

void os_membarrier(void)
{
    explore_heavy_fence();
}

/* ---- the clock stands still ---- */

uint64_t os_now_monotonic_ns(void)
{
    return clock_ns;
}

uint64_t os_now_realtime_ns(void)
{
    return clock_ns;
}

uint64_t os_thread_cpu_ns(void)
{
    return 0;
}

void explore_clock_advance(uint64_t ns)
{
    clock_ns += ns;
}

/* ---- eventfds ---- */

int os_eventfd(void)
{
    for (int i = 0; i < FDS_MAX; i++) {
        if (!eventfds[i].is_open) {
            eventfds[i].is_open = true;
            eventfds[i].signalled = false;
            eventfds[i].writes = 0;
            return FIRST_FD + i;
        }
    }
    explore_fail("more than %d eventfds", FDS_MAX);
}

static unsigned index_of(int fd)
{
    unsigned index = (unsigned)(fd - FIRST_FD);

    explore_check(index < FDS_MAX);
    explore_check(eventfds[index].is_open);
    return index;
}

int os_close_now(int fd)
{
    eventfds[index_of(fd)].is_open = false;
    return 0;
}

bool os_eventfd_signal(int fd)
{
    explore_step("eventfd-signal");
    eventfds[index_of(fd)].signalled = true;
    eventfds[index_of(fd)].writes++;
    return true;
}

bool os_eventfd_clear(int fd)
{
    bool was;

    explore_step("eventfd-clear");
    was = eventfds[index_of(fd)].signalled;
    eventfds[index_of(fd)].signalled = false;
    return was;
}

static bool eventfd_is_signalled(void *opaque)
{
    return eventfds[(uintptr_t)opaque].signalled;
}

void explore_eventfd_wait(int fd)
{
    explore_wait(eventfd_is_signalled, (void *)(uintptr_t)index_of(fd), "eventfd-wait");
}

unsigned explore_eventfd_writes(int fd)
{
    return eventfds[index_of(fd)].writes;
}

/* ---- stacks ---- */

size_t os_page_bytes(void)
{
    return 4096;
}

void *os_map_stack(size_t bytes)
{
    for (unsigned i = 0; i < STACKS_MAX; i++) {
        if (stacks[i].address == NULL) {
            stacks[i].address = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            stacks[i].bytes = bytes;
        }
        if (!stacks[i].in_use && stacks[i].bytes == bytes) {
            stacks[i].in_use = true;
            return stacks[i].address;
        }
    }
    explore_fail("more than %d coroutine stacks", STACKS_MAX);
}

void os_unmap_stack(void *lowest_usable, size_t bytes)
{
    for (unsigned i = 0; i < STACKS_MAX; i++) {
        if (stacks[i].address == lowest_usable) {
            explore_check(stacks[i].in_use && stacks[i].bytes == bytes);
            stacks[i].in_use = false;
            return;
        }
    }
    explore_fail("a stack that is none was unmapped");
}
