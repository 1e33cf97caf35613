/* test_str.c -- numbers, sizes, globs, ids and the string buffer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

static void sizes(void **state)
{
    static const struct {
        const char *text;
        int rc;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"512", 0, 512},
        {"64k", 0, 65536},
        {"64K", 0, 65536},
        {"1.5G", 0, 3ULL << 29},
        {"1B", 0, 1},
        {"0x10", 0, 16},
        {"7E", 0, 7ULL << 60},
        {"15E", 0, 15ULL << 60},
        {"16E", -ERANGE, 0},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"k", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1kk", -EINVAL, 0},
        {"1.", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"1x", -EINVAL, 0},
    };

    for (size_t i = 0; i < countof(cases); i++) {
        uint64_t bytes = 0xdead;

        assert_int_equal(str_parse_size(cases[i].text, &bytes), cases[i].rc);
        assert_true(bytes == (cases[i].rc == 0 ? cases[i].bytes : 0xdead));
    }
}

static void numbers(void **state)
{
    uint64_t value = 7;

    assert_int_equal(str_parse_u64("255", 255, &value), 0);
    assert_true(value == 255);
    assert_int_equal(str_parse_u64("256", 255, &value), -ERANGE);
    assert_int_equal(str_parse_u64("0x1f", 255, &value), 0);
    assert_true(value == 31);
    assert_int_equal(str_parse_u64("12a", 255, &value), -EINVAL);
    assert_int_equal(str_parse_u64("+1", 255, &value), -EINVAL);
    assert_int_equal(str_parse_u64("", 255, &value), -EINVAL);
    assert_int_equal(str_parse_u64("99999999999999999999", UINT64_MAX, &value), -ERANGE);
    assert_true(value == 31);
}

static void globs(void **state)
{
    assert_true(str_matches_glob("hba_request", "hba_*"));
    assert_true(str_matches_glob("hba_request", "*"));
    assert_true(str_matches_glob("hba_request", "*_r?quest"));
    assert_true(str_matches_glob("abcabd", "*abd"));
    assert_true(str_matches_glob("", "*"));
    assert_false(str_matches_glob("hba_request", "hba"));
    assert_false(str_matches_glob("hba", "hba_*"));
    assert_false(str_matches_glob("", "?"));
}

static void ids(void **state)
{
    char long_id[130];

    memset(long_id, 'a', sizeof(long_id));
    long_id[127] = '\0';
    assert_true(str_is_wellformed_id(long_id));
    long_id[127] = 'a';
    long_id[128] = '\0';
    assert_false(str_is_wellformed_id(long_id));
    assert_true(str_is_wellformed_id("disk-0.a_b"));
    assert_false(str_is_wellformed_id("0disk"));
    assert_false(str_is_wellformed_id("#block1"));
    assert_false(str_is_wellformed_id("a/b"));
    assert_false(str_is_wellformed_id(""));
}

static void booleans(void **state)
{
    bool value = false;

    assert_int_equal(str_parse_bool("on", &value), 0);
    assert_true(value);
    assert_int_equal(str_parse_bool("n", &value), 0);
    assert_false(value);
    assert_int_equal(str_parse_bool("1", &value), -EINVAL);
    assert_int_equal(str_parse_bool("ON", &value), -EINVAL);
}

static void buffer_grows(void **state)
{
    struct strbuf buf = {0};

    for (int i = 0; i < 1000; i++) {
        strbuf_addf(&buf, "%03d,", i);
    }
    assert_int_equal(buf.bytes, 4000);
    assert_int_equal(strlen(buf.text), 4000);
    assert_memory_equal(buf.text + 3996, "999,", 5);
    strbuf_fini(&buf);
    assert_null(buf.text);
}

static void near_names(void **state)
{
    assert_int_equal(str_distance("filename", "filenam"), 1);
    assert_int_equal(str_distance("scsi_id", "scsi-id"), 0);
    assert_int_equal(str_distance("node-nmae", "node-name"), 1);
    assert_int_equal(str_distance("lnu", "lun"), 1);
    assert_int_equal(str_distance("kitten", "sittin"), 2);
    assert_int_equal(str_distance("abcdefgh", "badcefgh"), 2);
    assert_true(str_distance("filename", "node-name") == SIZE_MAX);
    assert_true(str_distance("a", "b") == SIZE_MAX);
    assert_true(str_distance("", "id") == SIZE_MAX);
    assert_int_equal(str_distance("lunn", "lun"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),    cmocka_unit_test(numbers),
        cmocka_unit_test(globs),    cmocka_unit_test(ids),
        cmocka_unit_test(booleans), cmocka_unit_test(buffer_grows),
        cmocka_unit_test(near_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
