/*
 * iothread.c -- threads that run one loop each, by name.
 *
 * (H1) The list and everything in it are main-loop data; an I/O thread sees only its struct start.
 * (H2) An I/O thread is in the list from the moment its id is taken until its thread is joined; it
 *      is found only while its loop runs and it is not being deleted.
 */
#include "loop/iothread.h"
#include "loop/io.h"
#include "loop/loop_int.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/thread.h"
#include <errno.h>
#include <string.h>

struct iothread {
    struct list link;
    char *id;
    struct iothread_options options;
    struct os_thread *thread;
    struct loop *loop;
    long os_id;
    bool is_running; /* (H2) */
    struct list users;
};

struct user {
    struct list link;
    char *name;
};

static struct list iothreads = LIST_INIT(iothreads); /* (H1) */

enum { POOL_LIMIT_MAX = 1 << 20 };

#define OPTION(name_, member, default_, help_)                                                     \
    {                                                                                              \
        .name = name_, .type = OPT_I64, .offset = offsetof(struct iothread_options, member),       \
        .dflt = default_, .min = 0, .max = INT64_MAX, .since = "0.1", .help = help_                \
    }
static const struct opt iothread_opts[] = {
    OPTION("poll-max-ns", poll_max_ns, "32768",
           "longest busy wait before sleep in nanoseconds, 0 = none"),
    OPTION("poll-grow", poll_grow, "0", "factor by which the busy wait grows, 0 = 2"),
    OPTION("poll-shrink", poll_shrink, "0", "divisor by which it shrinks, 0 = straight to none"),
    OPTION("aio-max-batch", aio_max_batch, "0",
           "requests submitted to the kernel at once, 0 = the engine's choice"),
    OPTION("thread-pool-min", thread_pool_min, "0", "idle worker threads kept for ever"),
    OPTION("thread-pool-max", thread_pool_max, "64", "idle worker threads kept for a while"),
};
const struct opt_table iothread_options_table = {
    .name = "iothread",
    .help = "a thread that runs one event loop",
    .opts = iothread_opts,
    .count = countof(iothread_opts),
    .values_bytes = sizeof(struct iothread_options),
};

/* ---- finding ---- */

MAIN_LOOP
static struct iothread *find_any(const char *id)
{
    struct iothread *thread;

    list_for_each(thread, &iothreads, link) {
        if (str_equal(thread->id, id)) {
            return thread;
        }
    }
    return NULL;
}

struct iothread *iothread_find(const char *id)
{
    struct iothread *thread = find_any(id);

    return thread != NULL && thread->is_running ? thread : NULL;
}

struct loop *iothread_loop(struct iothread *thread)
{
    return thread->loop;
}

const char *iothread_id(const struct iothread *thread)
{
    return thread->id;
}

long iothread_os_id(const struct iothread *thread)
{
    return thread->os_id;
}

void iothread_each(void (*each)(struct iothread *thread, void *opaque), void *opaque)
{
    struct iothread *thread, *following;

    list_for_each_safe(thread, following, &iothreads, link) {
        if (thread->is_running) {
            each(thread, opaque);
        }
    }
}

/* ---- options ---- */

void iothread_get_options(const struct iothread *thread, struct iothread_options *ret_options)
{
    *ret_options = thread->options;
}

static const struct opt *option_find(const char *name)
{
    for (size_t i = 0; i < countof(iothread_opts); i++) {
        if (str_equal(iothread_opts[i].name, name)) {
            return &iothread_opts[i];
        }
    }
    return NULL;
}

MAIN_LOOP
static int options_check(const struct iothread_options *options, struct err **reterr)
{
    for (size_t i = 0; i < countof(iothread_opts); i++) {
        int64_t value;

        memcpy(&value, (const char *)options + iothread_opts[i].offset, sizeof(value));
        if (value < 0) {
            return err_set(reterr, EINVAL, "'%s' must not be negative", iothread_opts[i].name);
        }
    }
    if (options->thread_pool_max < 1 || options->thread_pool_min > options->thread_pool_max) {
        return err_set(reterr, EINVAL,
                       "'thread-pool-max' must be at least 1 and not below 'thread-pool-min'");
    }
    if (options->thread_pool_max > POOL_LIMIT_MAX) { /* the sum over all loops is kept */
        return err_set(reterr, EINVAL, "'thread-pool-max' must not be above %d", POOL_LIMIT_MAX);
    }
    return 0;
}

MAIN_LOOP
static void options_apply(struct iothread *thread)
{
    const struct iothread_options *options = &thread->options;

    loop_set_polling(thread->loop, (uint64_t)options->poll_max_ns, (uint64_t)options->poll_grow,
                     (uint64_t)options->poll_shrink);
    loop_set_aio_max_batch(thread->loop, (uint64_t)options->aio_max_batch);
}

int iothread_set_option(struct iothread *thread, const char *name, int64_t value,
                        struct err **reterr)
{
    const struct opt *opt = option_find(name);
    struct iothread_options options = thread->options;
    int rc;

    if (opt == NULL) {
        return err_set(reterr, EINVAL, "iothread '%s' has no property '%s'", thread->id, name);
    }
    memcpy((char *)&options + opt->offset, &value, sizeof(value));
    rc = options_check(&options, reterr);
    if (rc < 0) {
        return rc;
    }
    pool_limits_add(options.thread_pool_min - thread->options.thread_pool_min,
                    options.thread_pool_max - thread->options.thread_pool_max);
    thread->options = options;
    options_apply(thread);
    return 0;
}

/* ---- users ---- */

void iothread_use(struct iothread *thread, const char *user)
{
    struct user *entry = mem_new(struct user);

    entry->name = mem_strdup(user);
    list_add_tail(&thread->users, &entry->link);
}

void iothread_unuse(struct iothread *thread, const char *user)
{
    struct user *entry;

    list_for_each(entry, &thread->users, link) {
        if (str_equal(entry->name, user)) {
            list_remove(&entry->link);
            mem_free(entry->name);
            mem_free(entry);
            return;
        }
    }
    panic("iothread '%s' is not in use by %s", thread->id, user);
}

MAIN_LOOP
static int refuse_in_use(const struct iothread *thread, struct err **reterr)
{
    struct strbuf names = {.text = NULL};
    const struct user *entry;
    int rc;

    list_for_each(entry, &thread->users, link) {
        strbuf_addf(&names, "%s%s", names.bytes ? ", " : "", entry->name);
    }
    rc = err_set(reterr, EBUSY, "iothread '%s' is in use by %s", thread->id, names.text);
    strbuf_fini(&names);
    return rc;
}

/* ---- the thread ---- */

/* On the stack of the coroutine that creates the thread; not touched after `wait` is completed. */
struct start {
    struct loop_config config;
    struct co_wait wait;
    struct loop *loop;
    long os_id;
    struct err *error;
};

/* Runs the loop of @start's making until it is stopped. */
BLOCKING
static void thread_main(void *opaque)
{
    struct start *start = opaque;
    struct err *error = NULL;
    struct loop *loop = loop_new(&start->config, &start->error);

    if (loop == NULL) {
        co_wait_complete(&start->wait, -ENOSPC);
        co_pool_release();
        return;
    }
    loop_assert_home(loop);
    start->loop = loop;
    start->os_id = os_thread_id();
    co_wait_complete(&start->wait, 0);
    loop_run(loop);
    if (loop_free(loop, &error) < 0) {
        panic("%s", error->text); /* its users have left: whose work is it? */
    }
    co_pool_release();
}

BLOCKING
static int64_t join(void *opaque)
{
    os_thread_join(opaque);
    return 0;
}

MAIN_LOOP
static struct iothread *entry_new(const char *id, const struct iothread_options *options)
{
    struct iothread *thread = mem_new(struct iothread);

    thread->id = mem_strdup(id);
    thread->options = *options;
    list_init(&thread->users);
    list_add_tail(&iothreads, &thread->link);
    return thread;
}

MAIN_LOOP
static void entry_free(struct iothread *thread)
{
    list_remove(&thread->link);
    mem_free(thread->id);
    mem_free(thread);
}

MAIN_LOOP CO_FN
static int run_thread(struct iothread *thread, struct err **reterr)
{
    struct start start = {.config = {.name = thread->id}};
    char name[16];
    int rc;

    start.config.poll_max_ns = (uint64_t)thread->options.poll_max_ns;
    start.config.poll_grow = (uint64_t)thread->options.poll_grow;
    start.config.poll_shrink = (uint64_t)thread->options.poll_shrink;
    start.config.aio_max_batch = (uint64_t)thread->options.aio_max_batch;
    snprintf(name, sizeof(name), "%.15s", thread->id);
    co_wait_init(&start.wait);
    thread->thread = os_thread_start(name, thread_main, &start);
    rc = (int)co_wait_block(&start.wait);
    if (rc < 0) {
        pool_co_call(NULL, join, thread->thread);
        err_propagate(reterr, start.error);
        err_prepend(reterr, "iothread '%s': ", thread->id);
        return rc;
    }
    thread->loop = start.loop;
    thread->os_id = start.os_id;
    return 0;
}

int iothread_co_new(const char *id, const struct iothread_options *options, struct err **reterr)
{
    struct iothread *thread;
    int rc;

    if (!str_is_wellformed_id(id)) {
        return err_set(reterr, EINVAL, "'%s' is not an id: a letter, then letters, digits, '-', "
                       "'.', '_'", id);
    }
    if (find_any(id) != NULL) {
        return err_set(reterr, EEXIST, "iothread '%s' exists already", id);
    }
    rc = options_check(options, reterr);
    if (rc < 0) {
        return rc;
    }
    thread = entry_new(id, options);
    rc = run_thread(thread, reterr);
    if (rc < 0) {
        entry_free(thread);
        return rc;
    }
    pool_limits_add(options->thread_pool_min, options->thread_pool_max);
    thread->is_running = true;
    return 0;
}

int iothread_co_delete(struct iothread *thread, struct err **reterr)
{
    assert(thread->is_running);
    if (!list_is_empty(&thread->users)) {
        return refuse_in_use(thread, reterr);
    }
    thread->is_running = false; /* (H2) */
    loop_stop(thread->loop);
    pool_co_call(NULL, join, thread->thread);
    pool_limits_add(-thread->options.thread_pool_min, -thread->options.thread_pool_max);
    entry_free(thread);
    return 0;
}
