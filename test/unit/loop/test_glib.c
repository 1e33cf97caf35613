/* test_glib.c -- a loop inside a GLib main loop, beside GLib's own sources. */
#include "harness.h"
#include "loop/gsource.h"
#include "os/file.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"

enum { EVENTS = 500, MS = 1000000 };

static uint64_t runs; /* atomic */
static unsigned ticks;
static int file_fd;

HOME_LOOP
static void counts(void *opaque)
{
    at_add(&runs, 1);
}

BLOCKING
static void schedules_one_by_one(void *opaque)
{
    for (uint64_t i = 0; i < EVENTS; i++) {
        bh_schedule(opaque);
        while (at_load(&runs) <= i) {
            usleep(1);
        }
    }
}

CO_FN
static void lives_there(void *opaque)
{
    char block[512];
    struct iovec iov = {block, sizeof(block)};
    uint64_t began_ns = os_now_monotonic_ns();
    struct io_file file;

    loop_assert_main();
    io_file_init(&file, file_fd, IO_ENGINE);
    loop_co_sleep(5 * MS);
    expect(os_now_monotonic_ns() - began_ns >= 5 * MS);
    for (unsigned i = 0; i < 20; i++) {
        expect(io_co_pwritev(&file, &iov, 1, 0, 0) == sizeof(block));
        expect(io_co_fdatasync(&file) == 0);
    }
    io_file_fini(&file);
    *(bool *)opaque = true;
}

static gboolean on_tick(gpointer data)
{
    ticks++;
    return G_SOURCE_CONTINUE;
}

static gboolean on_hang(gpointer data)
{
    panic("nothing has woken the main loop");
}

static void both_get_their_turns(void **state)
{
    struct loop *loop = *state;
    GMainContext *context = g_main_context_new();
    GSource *source, *tick = g_timeout_source_new(1), *hang = g_timeout_source_new(30000);
    struct os_thread *thread;
    char path[] = "/var/tmp/caisson-glib-XXXXXX";
    bool has_lived = false;
    struct bh *bh;

    file_fd = os_mkstemp(path);
    os_unlink(path);
    loop_assert_home(loop);
    source = loop_gsource_new(loop);
    g_source_attach(source, context);
    g_source_set_callback(tick, on_tick, NULL, NULL);
    g_source_attach(tick, context);
    g_source_set_callback(hang, on_hang, NULL, NULL);
    g_source_attach(hang, context);
    bh = bh_new(loop, counts, NULL, "counts");
    loop_co_spawn(loop, lives_there, &has_lived, "lives there");
    thread = os_thread_start("foreign", schedules_one_by_one, bh);
    while (at_load(&runs) < EVENTS || !has_lived || ticks < 5) {
        g_main_context_iteration(context, TRUE);
    }
    g_source_destroy(tick); /* from here on only the loop can wake it */
    os_thread_join(thread);
    at_store(&runs, 0);
    thread = os_thread_start("foreign", schedules_one_by_one, bh);
    while (at_load(&runs) < EVENTS) {
        g_main_context_iteration(context, TRUE);
    }
    os_thread_join(thread);
    bh_delete(bh);
    g_source_destroy(source);
    g_source_unref(source);
    g_source_destroy(hang);
    g_source_unref(hang);
    g_source_unref(tick);
    g_main_context_unref(context);
    os_close(file_fd);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(both_get_their_turns),
    };
    int failures;

    test_begin(argc, argv);
    test_is_hosted = true;
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
