/*
 * registry.c -- the table of loops.
 *
 * (G1) A struct loop and its eventfd are made once per index and reused, never freed: a scheduler
 *      that is still notifying after its work has run and ended the loop finds valid memory, and at
 *      worst wakes the next user of the index once in vain (RACES 6).
 * (G2) The first loop taken while there is none is the main loop, until it is given back.
 */
#include "loop/loop_int.h"
#include "base/mem.h"
#include "os/file.h"
#include "sync/mutex.h"
#include <errno.h>

static struct mutex registry_mutex = MUTEX_INIT(MUTEX_LOOPS);
static struct loop *loops[LOOPS_MAX]; /* registry_mutex */
static bool is_used[LOOPS_MAX];       /* registry_mutex */
static struct loop *main_loop;        /* atomic */

ANY_THREAD
static struct loop *make(unsigned index, struct err **reterr)
{
    struct loop *loop;
    int fd = os_eventfd();

    if (fd < 0) {
        err_set_errno(reterr, -fd, "no eventfd for another loop");
        return NULL;
    }
    loop = mem_try_alloc_aligned(_Alignof(struct loop), sizeof(struct loop));
    if (loop == NULL) {
        panic("no memory for a loop");
    }
    loop->index = index;
    loop->notifier.fd = fd;
    return loop;
}

ANY_THREAD
static struct loop *take_locked(struct err **reterr)
{
    for (unsigned i = 0; i < LOOPS_MAX; i++) {
        if (is_used[i]) {
            continue;
        }
        if (loops[i] == NULL) {
            at_store_release(&loops[i], make(i, reterr)); /* pairs with registry_at() */
        }
        at_store_relaxed(&is_used[i], loops[i] != NULL); /* pairs with registry_at() */
        return loops[i];
    }
    err_set(reterr, ENOSPC, "all %d loops are in use", LOOPS_MAX);
    return NULL;
}

struct loop *registry_take(struct err **reterr)
{
    struct loop *loop, *none = NULL;

    mutex_lock(&registry_mutex);
    loop = take_locked(reterr);
    if (loop != NULL) {
        at_cas(&main_loop, &none, loop); /* (G2) */
    }
    mutex_unlock(&registry_mutex);
    return loop;
}

void registry_give_back(struct loop *loop)
{
    struct loop *expected = loop;

    mutex_lock(&registry_mutex);
    at_store_relaxed(&is_used[loop->index], false); /* pairs with registry_at() */
    at_cas(&main_loop, &expected, NULL);
    mutex_unlock(&registry_mutex);
}

/* Without the lock: the dumper may have stopped its holder. (G1) makes a late answer harmless. */
struct loop *registry_at(unsigned index)
{
    return at_load_relaxed(&is_used[index]) ? at_load_acquire(&loops[index]) : NULL;
}

struct loop *loop_main(void)
{
    return at_load_acquire(&main_loop); /* pairs with registry_take() */
}
