/* test_log.c -- levels, the limit of repeated lines, trace points, errors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

static struct strbuf seen;

static void collect(const char *line, void *opaque)
{
    strbuf_addf(&seen, "%s\n", line);
}

static void levels_are_kept(void **state)
{
    log_set_sink(collect, NULL);
    log_warn("export '%s': odd", "hba0");
    log_debug("not shown");
    log_set_level(LOG_ERROR);
    log_warn("not shown either");
    log_error("bad");
    log_set_level(LOG_INFO);
    log_set_sink(NULL, NULL);
    assert_string_equal(seen.text, "caisson: warn: export 'hba0': odd\ncaisson: error: bad\n");
    strbuf_fini(&seen);
}

static void limit_counts_what_it_holds_back(void **state)
{
    struct log_limit limit = {0};
    unsigned held = 99, passed = 0;
    uint64_t second = 1000000000;

    for (unsigned i = 0; i < 25; i++) {
        passed += log_limit_allows(&limit, 10, second + i, &held);
    }
    assert_int_equal(passed, 10);
    assert_false(log_limit_allows(&limit, 10, second * 60, &held));
    assert_true(log_limit_allows(&limit, 10, second * 61, &held));
    assert_int_equal(held, 16);
    assert_true(log_limit_allows(&limit, 10, second * 62, &held));
    assert_int_equal(held, 0);
}

static void trace_points_switch_by_glob(void **state)
{
    log_set_sink(collect, NULL);
    for (int i = 0; i < 2; i++) {
        TRACE(test_point, "value %d", i);
        if (i == 0) {
            assert_int_equal(trace_enable("nothing_*"), 0);
            assert_int_equal(trace_enable("test_po*"), 1);
        }
    }
    log_set_sink(NULL, NULL);
    assert_string_equal(seen.text, "test_point value 1\n");
    strbuf_fini(&seen);
}

static void errors_say_and_class(void **state)
{
    struct err *error = NULL, *other = NULL;

    assert_int_equal(err_set(&error, EBUSY, "id '%s' is taken", "a"), -EBUSY);
    err_prepend(&error, "device_add: ");
    assert_string_equal(error->text, "device_add: id 'a' is taken");
    assert_string_equal(err_class_name(error->class), "GenericError");
    assert_int_equal(err_set_class(&other, ERR_DEVICE_NOT_FOUND, ENODEV, "gone"), -ENODEV);
    err_propagate(&error, other); /* the first stays; the second is freed */
    assert_string_equal(error->text, "device_add: id 'a' is taken");
    err_free(error);
    error = NULL;
    assert_int_equal(err_set_errno(&error, ENOENT, "Could not open '%s'", "/x"), -ENOENT);
    assert_string_equal(error->text, "Could not open '/x': No such file or directory");
    err_free(error);
    assert_int_equal(err_set(NULL, EIO, "nobody reads this"), -EIO);
}

static void allocation_fails_when_told(void **state)
{
    void *memory;

    mem_fail_nth(2);
    memory = mem_try_alloc(10);
    assert_non_null(memory);
    assert_null(mem_try_alloc_aligned(4096, 10));
    mem_free(memory);
    memory = mem_try_alloc_aligned(4096, 10);
    assert_int_equal((uintptr_t)memory % 4096, 0);
    mem_free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_kept),
        cmocka_unit_test(limit_counts_what_it_holds_back),
        cmocka_unit_test(trace_points_switch_by_glob),
        cmocka_unit_test(errors_say_and_class),
        cmocka_unit_test(allocation_fails_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
