/* test_opt.c -- tables: what they accept, what they refuse and in which words. */
#include "base/opt.h"
#include "base/mem.h"
#include "base/str.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

struct inner {
    char *path;
    bool keep;
    uint32_t mode;
};
static const struct opt inner_opts[] = {
    {.name = "path", .type = OPT_STR, .flags = OPT_REQUIRED, OPT_AT(struct inner, path),
     .since = "0.1", .help = "where"},
    {.name = "keep", .type = OPT_BOOL, OPT_AT(struct inner, keep), .dflt = "on"},
    {.name = "mode", .type = OPT_U32, OPT_AT(struct inner, mode), .dflt = "0x1f"},
};
static const struct opt_table inner_table = {
    .name = "inner", .opts = inner_opts, .count = countof(inner_opts),
    .values_bytes = sizeof(struct inner)};

static const char *const color_names[] = {"red", "green", "blue", NULL};

struct common {
    char *node_name;
    bool read_only;
};
static const struct opt common_opts[] = {
    {.name = "node-name", .type = OPT_STR, OPT_AT(struct common, node_name)},
    {.name = "read-only", .type = OPT_BOOL, OPT_AT(struct common, read_only), .dflt = "off"},
};
static const struct opt_table common_table = {
    .name = "common", .opts = common_opts, .count = countof(common_opts),
    .values_bytes = sizeof(struct common)};

struct values {
    struct common common;
    bool has_size, has_count;
    uint64_t size;
    uint16_t count;
    uint64_t wide;
    int64_t offset, any_offset;
    int color;
    struct inner addr;
    struct opt_list list;
    struct opt_strs names;
    json_t *rest;
    char *nullable;
};
static const struct opt values_opts[] = {
    {.name = "size",
     .type = OPT_SIZE,
     OPT_AT(struct values, size),
     OPT_HAS(struct values, has_size),
     .dflt = "1G",
     .since = "0.1",
     .help = "virtual size"},
    {.name = "count",
     .type = OPT_U16,
     OPT_AT(struct values, count),
     OPT_HAS(struct values, has_count),
     .min = 2,
     .max = 500},
    {.name = "wide", .type = OPT_U64, OPT_AT(struct values, wide)},
    {.name = "offset",
     .type = OPT_I64,
     OPT_AT(struct values, offset),
     .min = (uint64_t)(int64_t)-5,
     .max = 5},
    {.name = "any-offset", .type = OPT_I64, OPT_AT(struct values, any_offset)},
    {.name = "color",
     .type = OPT_ENUM,
     OPT_AT(struct values, color),
     .names = color_names,
     .dflt = "green",
     .help = "of the bike shed"},
    {.name = "addr", .type = OPT_STRUCT, OPT_AT(struct values, addr), .table = &inner_table},
    {.name = "list", .type = OPT_LIST, OPT_AT(struct values, list), .table = &inner_table},
    {.name = "names", .type = OPT_STRS, OPT_AT(struct values, names)},
    {.name = "rest", .type = OPT_JSON, OPT_AT(struct values, rest)},
    {.name = "nullable", .type = OPT_STR, .flags = OPT_NULLABLE, OPT_AT(struct values, nullable)},
    {.name = "writable", .type = OPT_BOOL, .flags = OPT_REFUSED, .help = "an HBA has no node"},
};
static const struct opt_table values_table = {
    .name = "values", .base = &common_table, .opts = values_opts, .count = countof(values_opts),
    .values_bytes = sizeof(struct values)};

static json_t *read_text(const char *text, unsigned *ret_flags)
{
    struct err *error = NULL;
    json_t *object = NULL;
    bool help;

    if (opt_parse_string(text, NULL, &object, ret_flags, &help, &error) < 0) {
        fail_msg("%s: %s", text, error->text);
    }
    return object;
}

static void parse(const char *text, struct values *values)
{
    struct err *error = NULL;
    unsigned flags;
    json_t *object = read_text(text, &flags);

    if (opt_parse(&values_table, object, flags, values, &error) < 0) {
        fail_msg("%s: %s", text, error->text);
    }
    json_decref(object);
}

static void defaults_where_nothing_is_given(void **state)
{
    struct values v;

    parse("{}", &v);
    assert_null(v.common.node_name);
    assert_int_equal(v.size, 1ULL << 30);
    assert_false(v.has_size);
    assert_int_equal(v.color, 1);
    assert_true(v.addr.keep); /* (O2): of an absent struct too; its required member is not missed */
    assert_int_equal(v.addr.mode, 0x1f);
    assert_int_equal(v.names.count, 0);
    opt_free_values(&values_table, &v);
}

static void json_and_text_read_alike(void **state)
{
    static const char *const texts[] = {
        "{\"node-name\": \"n\", \"read-only\": true, \"size\": 65536, \"count\": 7, "
        "\"offset\": -5, \"any-offset\": -9223372036854775808, \"color\": \"blue\", "
        "\"addr\": {\"path\": \"/a,b\", \"mode\": 3}, "
        "\"list\": [{\"path\": \"x\"}, {\"path\": \"y\", \"keep\": false}], "
        "\"names\": [\"io0\", \"io1\"], \"wide\": 1}",
        "node-name=n,read-only=on,size=64k,count=7,offset=-5,any-offset=-9223372036854775808,"
        "color=blue,addr.path=/a,,b,addr.mode=3,list.0.path=x,list.1.path=y,list.1.keep=off,"
        "names.0=io0,names.1=io1,wide=0x1",
    };

    for (size_t i = 0; i < countof(texts); i++) {
        struct values v;
        const struct inner *items;

        parse(texts[i], &v);
        assert_string_equal(v.common.node_name, "n");
        assert_true(v.common.read_only);
        assert_int_equal(v.size, 65536);
        assert_true(v.has_size && v.has_count);
        assert_int_equal(v.count, 7);
        assert_int_equal(v.wide, 1);
        assert_int_equal(v.offset, -5);
        assert_true(v.any_offset == INT64_MIN);
        assert_int_equal(v.color, 2);
        assert_string_equal(v.addr.path, "/a,b");
        assert_int_equal(v.addr.mode, 3);
        assert_int_equal(v.list.count, 2);
        items = v.list.items;
        assert_string_equal(items[1].path, "y");
        assert_true(items[0].keep);
        assert_false(items[1].keep);
        assert_int_equal(v.names.count, 2);
        assert_string_equal(v.names.items[1], "io1");
        opt_free_values(&values_table, &v);
        assert_null(v.names.items);
    }
}

static void alternates_nulls_and_anything(void **state)
{
    struct values v;

    parse("{\"names\": \"io0\", \"nullable\": null, \"rest\": {\"a\": [1]}}", &v);
    assert_int_equal(v.names.count, 1);
    assert_string_equal(v.names.items[0], "io0");
    assert_null(v.nullable);
    assert_true(json_is_object(v.rest));
    opt_free_values(&values_table, &v);
    parse("names=io0", &v);
    assert_int_equal(v.names.count, 1);
    opt_free_values(&values_table, &v);
}

struct bad {
    const char *text;
    const char *message;
};
static const struct bad bad_table[] = {
    {"{\"size\": \"1\"}", "Invalid parameter type for 'size', expected: integer, found: string"},
    {"{\"size\": 1.0}", "Invalid parameter type for 'size', expected: integer, found: number"},
    {"{\"size\": null}", "Invalid parameter type for 'size', expected: integer, found: null"},
    {"{\"size\": -1}", "Parameter 'size' expects a value from 0 to 18446744073709551615, not '-1'"},
    {"{\"read-only\": 1}",
     "Invalid parameter type for 'read-only', expected: boolean, found: integer"},
    {"{\"node-name\": 1}",
     "Invalid parameter type for 'node-name', expected: string, found: integer"},
    {"{\"node-name\": \"a\\u0000b\"}", "Parameter 'node-name' expects a string without \\u0000"},
    {"{\"color\": \"pink\"}",
     "Parameter 'color' does not accept value 'pink', only 'red', 'green', 'blue'"},
    {"{\"count\": 501}", "Parameter 'count' expects a value from 2 to 500, not '501'"},
    {"{\"count\": 1}", "Parameter 'count' expects a value from 2 to 500, not '1'"},
    {"{\"offset\": -6}", "Parameter 'offset' expects a value from -5 to 5, not '-6'"},
    {"{\"addr\": {\"mode\": 1}}", "Parameter 'addr.path' is missing"},
    {"{\"addr\": {\"path\": \"\", \"mode\": 4294967296}}",
     "Parameter 'addr.mode' expects a value from 0 to 4294967295, not '4294967296'"},
    {"{\"addr\": 1}", "Invalid parameter type for 'addr', expected: object"},
    {"{\"list\": {}}", "Invalid parameter type for 'list', expected: array"},
    {"{\"list\": [{\"path\": \"a\"}, {\"path\": \"b\", \"kep\": true}]}",
     "Parameter 'list[1].kep' is unexpected; did you mean 'keep'?"},
    {"{\"list\": [{\"path\": \"a\"}, {}]}", "Parameter 'list[1].path' is missing"},
    {"{\"names\": [1]}", "Invalid parameter type for 'names[0]', expected: string, found: integer"},
    {"{\"names\": 1}", "Invalid parameter type for 'names', expected: string or array"},
    {"{\"writable\": true}", "Parameter 'writable' is not supported here: an HBA has no node"},
    {"{\"node_name\": \"x\"}", "Parameter 'node_name' is unexpected; did you mean 'node-name'?"},
    {"{\"zebra\": 1}", "Parameter 'zebra' is unexpected"},
    {"size=abc", "Parameter 'size' expects a size such as 4096, 64k or 1G, not 'abc'"},
    {"size=64kk", "Parameter 'size' expects a size such as 4096, 64k or 1G, not '64kk'"},
    {"size=", "Parameter 'size' expects a size such as 4096, 64k or 1G, not ''"},
    {"count=7x", "Parameter 'count' expects a number, not '7x'"},
    {"count=-1", "Parameter 'count' expects a value from 2 to 500, not '-1'"},
    {"wide=18446744073709551616",
     "Parameter 'wide' expects a value from 0 to 18446744073709551615, not "
     "'18446744073709551616'"},
    {"offset=x", "Parameter 'offset' expects an integer, not 'x'"},
    {"read-only=maybe", "Parameter 'read-only' expects 'on' or 'off', not 'maybe'"},
    {"size.x=1", "Parameters 'size.*' are unexpected: 'size' is a plain value"},
    {"addr=1", "Parameter 'addr' expects object, such as 'addr.MEMBER=…'"},
    {"list.0.keep=on", "Parameter 'list.0.path' is missing"},
    {"addr.path=x,addr.mod=1", "Parameter 'addr.mod' is unexpected; did you mean 'mode'?"},
};

static void bad_input_names_the_culprit(void **state)
{
    for (size_t i = 0; i < countof(bad_table); i++) {
        AUTO(err) struct err *error = NULL;
        struct values v;
        unsigned flags;
        json_t *object = read_text(bad_table[i].text, &flags);

        assert_int_equal(opt_parse(&values_table, object, flags, &v, &error), -EINVAL);
        assert_string_equal(error->text, bad_table[i].message);
        assert_null(v.common.node_name); /* nothing to free after a failure */
        assert_null(v.list.items);
        json_decref(object);
    }
}

static void unknown_members_may_be_somebody_elses(void **state)
{
    AUTO(err) struct err *error = NULL;
    struct values v;
    unsigned flags;
    json_t *object = read_text("{\"zebra\": 1, \"count\": 9}", &flags);

    assert_int_equal(opt_parse(&values_table, object, OPT_KEEP_REST, &v, &error), 0);
    assert_int_equal(v.count, 9);
    opt_free_values(&values_table, &v);
    json_decref(object);
    object = read_text("{\"addr\": {\"path\": \"x\", \"zebra\": 1}}", &flags);
    assert_int_equal(opt_parse(&values_table, object, OPT_KEEP_REST, &v, &error), -EINVAL);
    assert_string_equal(error->text, "Parameter 'addr.zebra' is unexpected");
    json_decref(object);
}

static void help_tells_all(void **state)
{
    struct strbuf text = {0};

    opt_help(&values_table, &text);
    assert_non_null(strstr(text.text, "  node-name=<str>"));
    assert_non_null(strstr(text.text, "  size=<size>                       virtual size "
                                      "(default: 1G, since 0.1)\n"));
    assert_non_null(strstr(text.text, "  color=<red|green|blue>            of the bike shed "
                                      "(default: green)\n"));
    assert_non_null(strstr(text.text, "  addr.path=<str>                   where "
                                      "(required, since 0.1)\n"));
    assert_non_null(strstr(text.text, "  list.N.keep=<bool>"));
    assert_null(strstr(text.text, "writable"));
    strbuf_fini(&text);
}

static bool count_until_size(const struct opt *opt, void *opaque)
{
    ++*(int *)opaque;
    return strcmp(opt->name, "size") != 0;
}

static void a_walk_goes_base_first_and_can_stop(void **state)
{
    int seen = 0;

    opt_each(&values_table, count_until_size, &seen);
    assert_int_equal(seen, 3);
    assert_string_equal(opt_type_name(OPT_I64), "int");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_where_nothing_is_given),
        cmocka_unit_test(json_and_text_read_alike),
        cmocka_unit_test(alternates_nulls_and_anything),
        cmocka_unit_test(bad_input_names_the_culprit),
        cmocka_unit_test(unknown_members_may_be_somebody_elses),
        cmocka_unit_test(help_tells_all),
        cmocka_unit_test(a_walk_goes_base_first_and_can_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
