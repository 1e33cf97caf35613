/* test_process.c -- pid file, daemonizing, signals, resources. */
#include "helper.h"
#include "base/err.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/process.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char path[64];

static void choose_path(void)
{
    snprintf(path, sizeof(path), "/tmp/caisson-pid-%d", getpid());
}

static int write_in_child(void)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct err *error = NULL;
        int rc = os_pidfile_write(path, &error);

        _exit(rc == -EAGAIN && strstr(error->text, path) && strstr(error->text, "locked by process")
                  ? 42
                  : -rc);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void pid_file_is_a_lock(void **state)
{
    char text[32] = "";
    int fd;

    choose_path();
    assert_int_equal(write_in_child(), 0); /* a process that is gone holds nothing */
    assert_int_equal(os_pidfile_write(path, NULL), 0);
    fd = os_open(path, O_RDONLY, 0);
    assert_true(os_read(fd, text, sizeof(text) - 1) > 0);
    assert_int_equal(strtol(text, NULL, 10), getpid());
    os_close_now(fd);
    assert_int_equal(write_in_child(), 42);
    os_unlink(path);
    assert_int_equal(write_in_child(), 0); /* another file now */
    os_unlink(path);
}

static void pid_file_that_cannot_be(void **state)
{
    struct err *error = NULL;

    assert_int_equal(os_pidfile_write("/no/such/folder/x.pid", &error), -ENOENT);
    assert_non_null(strstr(error->text, "/no/such/folder/x.pid"));
    err_free(error);
}

/* The exit status of a parent whose daemon reports @status, or dies. */
static int daemonize_status(int status)
{
    pid_t starter = fork();
    int result;

    if (starter == 0) {
        if (os_daemonize_begin(NULL) < 0) {
            _exit(99);
        }
        if (status >= 0) {
            os_daemonize_ready(status);
            os_daemonize_ready(status); /* harmless */
        }
        _exit(0);
    }
    waitpid(starter, &result, 0);
    return WEXITSTATUS(result);
}

static void parent_waits_for_the_daemon(void **state)
{
    assert_int_equal(daemonize_status(0), 0);
    assert_int_equal(daemonize_status(3), 3);
    assert_int_equal(daemonize_status(-1), 1);
}

static void signals_are_read(void **state)
{
    static const int signals[] = {SIGUSR1, SIGUSR2};
    int fd = os_signal_fd(signals, 2);

    assert_true(fd >= 0);
    assert_int_equal(os_signal_next(fd), 0);
    kill(getpid(), SIGUSR2);
    assert_int_equal(os_signal_next(fd), SIGUSR2);
    assert_int_equal(os_signal_next(fd), 0);
    os_close_now(fd);
    os_signal_unblock_all();
}

static void own_memory(void **state)
{
    uint64_t before = os_process_rss_anon_bytes();
    char *block = mem_alloc(32 << 20);

    memset(block, 1, 32 << 20);
    assert_true(before > 0);
    assert_true(os_process_rss_anon_bytes() > before + (24 << 20));
    mem_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pid_file_is_a_lock),          cmocka_unit_test(pid_file_that_cannot_be),
        cmocka_unit_test(parent_waits_for_the_daemon), cmocka_unit_test(signals_are_read),
        cmocka_unit_test(own_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
