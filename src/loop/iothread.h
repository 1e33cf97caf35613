/*
 * iothread.h -- a thread that runs one loop and nothing else (object type `iothread`).
 */
#pragma once
#include "base/opt.h"
#include "loop/loop.h"

struct iothread;

struct iothread_options {
    int64_t poll_max_ns, poll_grow, poll_shrink, aio_max_batch;
    int64_t thread_pool_min, thread_pool_max;
};
extern const struct opt_table iothread_options_table; /* names, defaults: QEMU's iothread object */

/* Starts the thread and waits, in the calling coroutine, until its loop runs or has failed.
 * Taken id: -EEXIST. All loops in use: -ENOSPC. */
MAIN_LOOP CO_FN
int iothread_co_new(const char *id, const struct iothread_options *options, struct err **reterr);

/* Borrowed; NULL: no such I/O thread. */
MAIN_LOOP
struct iothread *iothread_find(const char *id);
MAIN_LOOP
struct loop *iothread_loop(struct iothread *thread);
MAIN_LOOP
const char *iothread_id(const struct iothread *thread);
MAIN_LOOP
long iothread_os_id(const struct iothread *thread); /* the kernel's thread id */
MAIN_LOOP
void iothread_get_options(const struct iothread *thread, struct iothread_options *ret_options);
/* One option by its table name; -EINVAL with a text. Takes effect before the loop's next sleep. */
MAIN_LOOP
int iothread_set_option(struct iothread *thread, const char *name, int64_t value,
                        struct err **reterr);

/* A user keeps the thread from being deleted; @user names it in the refusal ("export 'hba0'"). */
MAIN_LOOP
void iothread_use(struct iothread *thread, const char *user);
MAIN_LOOP
void iothread_unuse(struct iothread *thread, const char *user);

/* Stop and join. In use: -EBUSY, naming the users. */
MAIN_LOOP CO_FN
int iothread_co_delete(struct iothread *thread, struct err **reterr);

MAIN_LOOP
void iothread_each(void (*each)(struct iothread *thread, void *opaque), void *opaque);
