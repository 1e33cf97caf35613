/* test_opt_keyval.c -- dotted keys against the JSON they stand for. */
#include "base/mem.h"
#include "base/opt.h"
#include "base/str.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

struct good {
    const char *text, *implied_key, *json;
};
static const struct good good_table[] = {
    {"", NULL, "{}"},
    {"a=1", NULL, "{\"a\": \"1\"}"},
    {"a=1,", NULL, "{\"a\": \"1\"}"},
    {"a=1,b=x=y", NULL, "{\"a\": \"1\", \"b\": \"x=y\"}"},
    {"a=", NULL, "{\"a\": \"\"}"},
    {"a=,b=", NULL, "{\"a\": \"\", \"b\": \"\"}"},
    {"a=1,,2,b=,,,c=3", NULL, "{\"a\": \"1,2\", \"b\": \",\", \"c\": \"3\"}"},
    {"a=1,a=2", NULL, "{\"a\": \"2\"}"},
    {"a.b.c=1,a.b.d=2,a.e=3", NULL, "{\"a\": {\"b\": {\"c\": \"1\", \"d\": \"2\"}, \"e\": \"3\"}}"},
    {"a.1=y,a.0=x", NULL, "{\"a\": [\"x\", \"y\"]}"},
    {"a.0.b=x,a.1.b=y", NULL, "{\"a\": [{\"b\": \"x\"}, {\"b\": \"y\"}]}"},
    {"a.0.0=x,a.0.1=y", NULL, "{\"a\": [[\"x\", \"y\"]]}"},
    {"a-b_c=1", NULL, "{\"a-b_c\": \"1\"}"},
    {"__org.x-y_a.b=1", NULL, "{\"__org.x-y_a\": {\"b\": \"1\"}}"},
    {"file,x=1", "driver", "{\"driver\": \"file\", \"x\": \"1\"}"},
    {"file", "driver", "{\"driver\": \"file\"}"},
    {"x=1", "driver", "{\"x\": \"1\"}"},
    {"a/b", "path", "{\"path\": \"a/b\"}"},
    {"a,,b", "path", "{\"path\": \"a,b\"}"},
    {"{\"a\": {\"b\": [1, true, null]}}", NULL, "{\"a\": {\"b\": [1, true, null]}}"},
    {"{'a': 'b\"c'}", NULL, "{\"a\": \"b\\\"c\"}"},
};

static void dotted_keys_mean_json(void **state)
{
    for (size_t i = 0; i < countof(good_table); i++) {
        const struct good *good = &good_table[i];
        struct err *error = NULL;
        json_t *wanted = json_loads(good->json, 0, NULL);
        json_t *found = NULL;
        unsigned flags;
        bool help;

        if (opt_parse_string(good->text, good->implied_key, &found, &flags, &help, &error) < 0) {
            fail_msg("%s: %s", good->text, error->text);
        }
        if (!json_equal(wanted, found)) {
            fail_msg("%s gives %s", good->text, json_dumps(found, 0));
        }
        assert_int_equal(flags, good->text[0] == '{' ? 0 : OPT_FROM_TEXT);
        assert_false(help);
        json_decref(wanted);
        json_decref(found);
    }
}

struct bad {
    const char *text, *implied_key, *message;
};
static const struct bad bad_table[] = {
    {"a=1,=1", NULL, "Invalid parameter ''"},
    {"a=1,,", NULL, NULL}, /* a value that ends in a comma, not an empty item */
    {",a=1", NULL, "Invalid parameter ''"},
    {"a", NULL, "Expected '=' after parameter 'a'"},
    {"a=1,b", "a", "Expected '=' after parameter 'b'"},
    {"a..b=1", NULL, "Invalid parameter 'a..b'"},
    {".a=1", NULL, "Invalid parameter '.a'"},
    {"a.=1", NULL, "Invalid parameter 'a.'"},
    {"0=1", NULL, "Invalid parameter '0'"},
    {"0a=1", NULL, "Invalid parameter '0a'"},
    {"a.0x=1", NULL, "Invalid parameter 'a.0x'"},
    {"a b=1", NULL, "Invalid parameter 'a b'"},
    {"a.1=1", NULL, "Parameter 'a.0' missing"},
    {"a.0=1,a.2=1", NULL, "Parameter 'a.1' missing"},
    {"a.b.99999999999999999999=1", NULL, "Parameter 'a.b.0' missing"},
    {"a.0=1,a.b=2", NULL, "Parameters 'a.*' used inconsistently"},
    {"a=1,a.b=2", NULL, "Parameters 'a.*' used inconsistently"},
    {"a.b=1,a=2", NULL, "Parameters 'a.*' used inconsistently"},
    {"a.b.c=1,a.b=2", NULL, "Parameters 'a.b.*' used inconsistently"},
    {"a=\xff", NULL, "Parameter 'a' is not UTF-8"},
    {"{\"a\"", NULL, "JSON parse error, premature EOI"},
    {"{\"a\": 1} x", NULL, "Expecting at most one JSON value"},
    {"{\"a\": 1, \"a\": 2}", NULL, "JSON parse error, duplicate object key near '\"a\"'"},
};

static void what_cannot_be_satisfied_is_refused(void **state)
{
    for (size_t i = 0; i < countof(bad_table); i++) {
        const struct bad *bad = &bad_table[i];
        AUTO(err) struct err *error = NULL;
        json_t *found = NULL;
        unsigned flags;
        bool help;
        int rc = opt_parse_string(bad->text, bad->implied_key, &found, &flags, &help, &error);

        if (bad->message == NULL) {
            assert_int_equal(rc, 0);
            json_decref(found);
            continue;
        }
        if (rc == 0) {
            fail_msg("%s gives %s", bad->text, json_dumps(found, 0));
        }
        assert_int_equal(rc, -EINVAL);
        assert_string_equal(error->text, bad->message);
        assert_null(found);
    }
}

static void names_and_depth_are_bounded(void **state)
{
    struct strbuf deep = {0};
    char text[140];
    struct err *error = NULL;
    json_t *found = NULL;
    unsigned flags;
    bool help;

    memset(text, 'a', sizeof(text));
    memcpy(text + 127, "=1", 3);
    assert_int_equal(opt_parse_string(text, NULL, &found, &flags, &help, &error), 0);
    json_decref(found);
    text[127] = 'a';
    memcpy(text + 128, "=1", 3);
    assert_int_equal(opt_parse_string(text, NULL, &found, &flags, &help, &error), -EINVAL);
    assert_true(str_has_prefix(error->text, "Parameter 'aaa"));
    err_free(take(&error));

    for (int i = 0; i < 100000; i++) {
        strbuf_add(&deep, "a.", 2);
    }
    strbuf_add(&deep, "a=1", 3);
    assert_int_equal(opt_parse_string(deep.text, NULL, &found, &flags, &help, &error), -EINVAL);
    assert_non_null(strstr(error->text, "has more than 64 parts"));
    err_free(take(&error));
    strbuf_fini(&deep);
}

static void help_is_asked_for_anywhere_as_a_word(void **state)
{
    static const struct {
        const char *text, *implied_key;
        bool help;
    } table[] = {
        {"help", "type", true},        {"?", "type", true},       {"iothread,help", "type", true},
        {"a=1,help", NULL, true},      {"help,a=1", NULL, true},  {"a=help", NULL, false},
        {"help=1", NULL, false},       {"a=1,?,b=2", NULL, true}, {"helper", "type", false},
    };

    for (size_t i = 0; i < countof(table); i++) {
        struct err *error = NULL;
        json_t *found = NULL;
        unsigned flags;
        bool help;

        assert_int_equal(
            opt_parse_string(table[i].text, table[i].implied_key, &found, &flags, &help, &error),
            0);
        assert_int_equal(help, table[i].help);
        json_decref(found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dotted_keys_mean_json),
        cmocka_unit_test(what_cannot_be_satisfied_is_refused),
        cmocka_unit_test(names_and_depth_are_bounded),
        cmocka_unit_test(help_is_asked_for_anywhere_as_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
