/*
 * test_engine.c -- an engine that fails to start: by name an error that says why, otherwise one
 * warning and the next engine. From the second test on the kernel refuses io_uring to this process.
 */
#include "harness.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "base/log.h"

static int refuse_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = countof(code), .filter = code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                   prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0
               ? -errno
               : 0;
}

static int lines;
static char last_line[512];

static void counts_lines(const char *line, void *opaque)
{
    lines++;
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static struct loop *try_engine(enum loop_engine_kind kind, struct err **reterr)
{
    struct loop_config config = {.name = "tried", .engine = kind};

    return loop_new(&config, reterr);
}

static void each_engine_starts_by_name(void **state)
{
    struct err *error = NULL;

    for (enum loop_engine_kind kind = LOOP_ENGINE_AUTO; kind <= LOOP_ENGINE_EPOLL; kind++) {
        struct loop *loop = try_engine(kind, &error);

        if (loop == NULL && kind == LOOP_ENGINE_IO_URING) {
            print_message("skipped: %s\n", error->text);
            err_free(take(&error));
            continue;
        }
        assert_non_null(loop);
        if (kind != LOOP_ENGINE_AUTO) {
            assert_non_null(strstr(loop_engine_text(loop),
                                   kind == LOOP_ENGINE_EPOLL ? "epoll" : "io_uring"));
        }
        test_loop_free(loop);
    }
}

HOME_LOOP
static void notes_it(void *opaque)
{
    *(bool *)opaque = true;
}

static void a_refused_engine(void **state)
{
    struct err *error = NULL;
    struct loop *loop;
    bool has_run = false;
    int rc = refuse_io_uring();

    if (rc < 0) {
        print_message("skipped: no seccomp here (error %d)\n", -rc);
        return;
    }
    log_set_sink(counts_lines, NULL);
    assert_null(try_engine(LOOP_ENGINE_IO_URING, &error));
    assert_non_null(error);
    assert_non_null(strstr(error->text, "io_uring"));
    assert_non_null(strstr(error->text, strerror(EPERM)));
    err_free(take(&error));
    assert_int_equal(lines, 0); /* who reports is who handles it */
    assert_null(loop_self());

    loop = try_engine(LOOP_ENGINE_AUTO, &error);
    assert_non_null(loop);
    assert_null(error);
    assert_int_equal(lines, 1);
    assert_non_null(strstr(last_line, "'tried'"));
    assert_non_null(strstr(last_line, strerror(EPERM)));
    assert_non_null(strstr(last_line, "epoll"));
    assert_non_null(strstr(loop_engine_text(loop), "epoll"));
    bh_once(loop, notes_it, &has_run, "note");
    loop_poll(loop, true);
    assert_true(has_run);
    test_loop_free(loop);
    log_set_sink(NULL, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_engine_starts_by_name),
        cmocka_unit_test(a_refused_engine),
    };

    test_begin(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
