/* test_iothread.c -- I/O threads by name: create, use, set options, delete. */
#include "harness.h"
#include "loop/iothread.h"
#include "os/file.h"
#include "os/thread.h"
#include "sync/atomic.h"

static const struct iothread_options defaults = {.poll_max_ns = 32768, .thread_pool_max = 64};
static uint32_t ran_on_thread; /* atomic */

HOME_LOOP
static void notes_its_thread(void *opaque)
{
    at_store(&ran_on_thread, (uint32_t)os_thread_id());
}

static int listed;

MAIN_LOOP
static void counts_it(struct iothread *thread, void *opaque)
{
    listed++;
}

MAIN_LOOP CO_FN
static void lives_and_dies(void *opaque)
{
    struct err *error = NULL;
    struct iothread *thread;
    struct iothread_options options;

    expect(iothread_co_new("io0", &defaults, &error) == 0);
    iothread_each(counts_it, NULL);
    expect(listed == 1);
    thread = iothread_find("io0");
    expect(thread != NULL && strcmp(iothread_id(thread), "io0") == 0);
    expect(iothread_loop(thread) != NULL && iothread_loop(thread) != loop_self());
    expect(strcmp(loop_name(iothread_loop(thread)), "io0") == 0);
    bh_once(iothread_loop(thread), notes_its_thread, NULL, "note");
    while (at_load(&ran_on_thread) == 0) {
        loop_co_sleep(1000000);
    }
    expect(at_load(&ran_on_thread) == (uint32_t)iothread_os_id(thread));

    expect(iothread_co_new("io0", &defaults, &error) == -EEXIST);
    expect(strstr(error->text, "'io0'") != NULL);
    err_free(take(&error));
    expect(iothread_co_new("0bad id", &defaults, &error) == -EINVAL);
    err_free(take(&error));

    iothread_use(thread, "export 'hba0'");
    iothread_use(thread, "export 'hba1'");
    expect(iothread_co_delete(thread, &error) == -EBUSY);
    expect(strstr(error->text, "'io0'") && strstr(error->text, "export 'hba0'") &&
           strstr(error->text, "export 'hba1'"));
    err_free(take(&error));
    iothread_unuse(thread, "export 'hba0'");
    expect(iothread_co_delete(thread, &error) == -EBUSY);
    expect(strstr(error->text, "hba0") == NULL);
    err_free(take(&error));
    iothread_unuse(thread, "export 'hba1'");

    expect(iothread_set_option(thread, "poll-max-ns", 1000, &error) == 0);
    iothread_get_options(thread, &options);
    expect(options.poll_max_ns == 1000 && options.thread_pool_max == 64);
    expect(iothread_set_option(thread, "poll-max-ns", -1, &error) == -EINVAL);
    err_free(take(&error));
    expect(iothread_set_option(thread, "no-such", 1, &error) == -EINVAL);
    expect(strstr(error->text, "no-such") != NULL);
    err_free(take(&error));
    expect(iothread_set_option(thread, "thread-pool-min", 65, &error) == -EINVAL);
    err_free(take(&error));
    expect(iothread_set_option(thread, "thread-pool-max", INT64_MAX, &error) == -EINVAL);
    err_free(take(&error));
    iothread_get_options(thread, &options);
    expect(options.poll_max_ns == 1000 && options.thread_pool_min == 0);

    expect(iothread_co_delete(thread, &error) == 0);
    expect(iothread_find("io0") == NULL);
}

static void create_use_and_delete(void **state)
{
    run_co(lives_and_dies, NULL);
}

/* All loops there can be, then one too many; then everything again: loops are reused, fds do not
 * leak. */
MAIN_LOOP CO_FN
static void makes_as_many_as_there_can_be(void *opaque)
{
    unsigned *fds = opaque;
    struct err *error = NULL;
    char id[16];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < LOOPS_MAX - 1; i++) {
            snprintf(id, sizeof(id), "io%d", i);
            expect(iothread_co_new(id, &defaults, &error) == 0);
        }
        expect(iothread_co_new("more", &defaults, &error) == -ENOSPC);
        expect(strstr(error->text, "64") != NULL);
        expect(iothread_find("more") == NULL);
        err_free(take(&error));
        for (int i = 0; i < LOOPS_MAX - 1; i++) {
            snprintf(id, sizeof(id), "io%d", i);
            expect(iothread_co_delete(iothread_find(id), &error) == 0);
        }
        fds[round] = os_fd_count();
    }
}

static void all_loops_and_again(void **state)
{
    unsigned fds[2];

    run_co(makes_as_many_as_there_can_be, fds);
    assert_int_equal(fds[0], fds[1]);
}

/* ---- work that ends its own thread's last reason to live ---- */

static uint32_t finished; /* atomic */

CO_FN
static void finishes(void *opaque)
{
    at_add(&finished, 1);
}

MAIN_LOOP CO_FN
static void deletes_right_after_the_last_work(void *opaque)
{
    struct err *error = NULL;

    for (uint32_t i = 0; i < 200; i++) {
        expect(iothread_co_new("short", &defaults, &error) == 0);
        loop_co_spawn(iothread_loop(iothread_find("short")), finishes, NULL, "last");
        expect(iothread_co_delete(iothread_find("short"), &error) == 0);
        expect(at_load(&finished) == i + 1); /* what was scheduled before still ran */
    }
}

static void deletion_flushes(void **state)
{
    run_co(deletes_right_after_the_last_work, NULL);
}

static void the_option_table_has_qemus_names(void **state)
{
    static const char *const names[] = {"poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch",
                                        "thread-pool-min", "thread-pool-max"};

    assert_int_equal(iothread_options_table.count, countof(names));
    for (size_t i = 0; i < countof(names); i++) {
        assert_string_equal(iothread_options_table.opts[i].name, names[i]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(create_use_and_delete),
        loop_test(all_loops_and_again),
        loop_test(deletion_flushes),
        loop_test(the_option_table_has_qemus_names),
    };
    int failures;

    test_begin(argc, argv);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
