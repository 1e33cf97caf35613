/* test_node.c -- blockdev-add and -del: options, names, users, descriptions. */
#include "rig.h"

MAIN_LOOP CO_FN
static void bad_options(void *opaque)
{
    add("{\"driver\":\"null-co\",\"node-name\":\"n0\"}");
    add_fails("{\"node-name\":\"a\"}", "Parameter 'driver' is missing");
    add_fails("{\"driver\":7,\"node-name\":\"a\"}", "'driver'");
    add_fails("{\"driver\":\"fil\",\"node-name\":\"a\"}",
              "Parameter 'driver' does not accept value 'fil'");
    add_fails("{\"driver\":\"null-co\"}", "'node-name' must be specified for the root node");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"1x\"}", "Invalid node-name: '1x'");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"#block000\"}", "Invalid node-name");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"a2345678901234567890123456789012\"}",
              "Node name too long");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"n0\"}",
              "Duplicate nodes with node-name='n0'");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"a\",\"sise\":1}", "'sise'");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"a\",\"size\":true}", "'size'");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"a\",\"cache\":{\"driect\":true}}", "driect");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"a\",\"detect-zeroes\":\"unmap\"}",
              "detect-zeroes to unmap");
    add_fails("{\"driver\":\"null-co\",\"node-name\":\"a\",\"force-share\":true}",
              "force-share=on");
    add_fails("{\"driver\":\"file\",\"node-name\":\"a\"}", "'filename' is missing");
    add_fails("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/nowhere/x.img\"}",
              "Could not open '/nowhere/x.img': No such file or directory");
    add_fails("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/dev/null\"}",
              "'file' driver requires '/dev/null' to be a regular file");
    add_fails("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/tmp\"}",
              "Could not open '/tmp': Is a directory");
    add_fails("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/x\",\"aio\":\"native\"}",
              "aio=native");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\"}", "'file' is missing");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"nope\"}",
              "Cannot find device='nope' nor node-name='nope'");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":7}", "'file'");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":{\"driver\":\"null-co\",\"x\":1}}",
              "'file' of node 'a': Parameter 'x' is unexpected");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":"
              "{\"driver\":\"null-co\",\"node-name\":\"a\"}}",
              "Duplicate nodes with node-name='a'");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"n0\",\"size\":10}",
              "multiple of 512");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"n0\",\"offset\":2147483648}",
              "Offset (2147483648)");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"n0\",\"offset\":512,"
              "\"size\":1073741824}",
              "The sum of offset (512) and size (1073741824)");
    expect(blk_node_find("a") == NULL);
    del("n0");
}

static void count_node(struct blk_node *node, void *opaque)
{
    ++*(unsigned *)opaque;
}

MAIN_LOOP CO_FN
static void inline_children(void *opaque)
{
    struct blk_node *top;
    unsigned count = 0;

    add_text("raw,node-name=r,read-only=on,cache.no-flush=on,file.driver=null-co,file.size=1M");
    top = blk_node_find("r");
    expect(blk_node_bytes(top) == 1 << 20);
    expect(blk_node_is_read_only(blk_edge_node(blk_node_child(top, 0))));
    expect(blk_node_options(blk_edge_node(blk_node_child(top, 0)))->cache.no_flush);
    expect(strncmp(blk_node_name(blk_edge_node(blk_node_child(top, 0))), "#block", 6) == 0);
    blk_node_each(count_node, &count);
    expect(count == 2);
    del_fails(blk_node_name(blk_edge_node(blk_node_child(top, 0))),
              "is in use by node 'r' as 'file'");
    del("r");
    count = 0;
    blk_node_each(count_node, &count);
    expect(count == 0);
}

/* The second node of an object fails to open: nothing of the first is left. */
MAIN_LOOP CO_FN
static void all_or_nothing(void *opaque)
{
    unsigned count = 0;

    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":{\"driver\":\"raw\",\"offset\":"
              "\"x\",\"file\":{\"driver\":\"null-co\",\"node-name\":\"b\"}}}",
              "'offset'");
    add_fails("{\"driver\":\"raw\",\"node-name\":\"a\",\"offset\":4096,\"size\":512,\"file\":"
              "{\"driver\":\"null-co\",\"node-name\":\"b\",\"size\":4096}}",
              "The sum of offset");
    blk_node_each(count_node, &count);
    expect(count == 0);
    add("{\"driver\":\"null-co\",\"node-name\":\"a\"}");
    add("{\"driver\":\"null-co\",\"node-name\":\"b\"}");
    del("a");
    del("b");
}

MAIN_LOOP CO_FN
static void deleting(void *opaque)
{
    struct test_user one, two;

    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    del_fails("zzz", "Failed to find node with node-name='zzz'");
    user_open(&one, "device 'disk0'", "m", PERM_READ, BLK_PERM_ALL);
    user_open(&two, "export 'e1'", "m", PERM_READ, BLK_PERM_ALL);
    del_fails("m", "Block device m is in use by device 'disk0', export 'e1'");
    user_close(&one);
    del_fails("m", "in use by export 'e1'");
    user_close(&two);
    del("m");
    del_fails("m", "Failed to find node");
}

MAIN_LOOP CO_FN
static void delete_m(void *opaque)
{
    loop_assert_main();
    del("m");
}

/* A name is taken until its node is closed, and the node cannot be found while it closes (N2). */
MAIN_LOOP CO_FN
static void name_while_closing(void *opaque)
{
    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    begin(loop_main(), delete_m, NULL);
    co_yield_turn();
    co_yield_turn();
    expect(blk_node_find("m") == NULL);
    add_fails("{\"driver\":\"mem\",\"node-name\":\"m\"}", "Duplicate nodes");
    del_fails("m", "Failed to find node");
    join();
    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    del("m");
}

/* The depth limit, and that nesting costs no stack: 256 levels work, also as a path for
 * requests. */
MAIN_LOOP CO_FN
static void deep(void *opaque)
{
    struct test_user user;
    char name[32], below[32] = "n0", byte = 7;

    add("{\"driver\":\"mem\",\"node-name\":\"n0\"}");
    for (unsigned i = 1; i < BLK_DEPTH_MAX; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        add("{\"driver\":\"raw\",\"node-name\":\"%s\",\"file\":\"%s\"}", name, below);
        memcpy(below, name, sizeof(below));
    }
    add_fails("{\"driver\":\"raw\",\"node-name\":\"x\",\"file\":\"n255\"}", "more than 256 levels");
    user_open(&user, "deep", name, PERM_RW, BLK_PERM_ALL);
    expect(mem_disk("n0")->perm == PERM_RW);
    expect(user_write(&user, 100, &byte, 1, BLK_REQ_FUA) == 0);
    byte = 0;
    expect(user_read(&user, 100, &byte, 1) == 0);
    expect(byte == 7);
    expect(user_zero(&user, 0, 4096, 0) == 0);
    user_close(&user);
    for (unsigned i = BLK_DEPTH_MAX; i-- > 0;) {
        snprintf(name, sizeof(name), "n%u", i);
        del(name);
    }
}

MAIN_LOOP CO_FN
static void nested_too_deep(void *opaque)
{
    json_t *options = json_pack("{s:s}", "driver", "null-co");
    struct err *error = NULL;

    for (unsigned i = 0; i < BLK_DEPTH_MAX; i++) {
        options = json_pack("{s:s, s:o}", "driver", "raw", "file", options);
    }
    json_object_set_new(options, "node-name", json_string("top"));
    expect(blk_node_co_add(options, 0, &error) == -ELOOP);
    expect(strstr(error->text, "256 levels") != NULL);
    err_free(error);
    json_decref(options);
}

/* Adding, finding and deleting many: also that a big table is grown and given back. */
MAIN_LOOP CO_FN
static void many(void *opaque)
{
    char name[32];

    for (unsigned i = 0; i < 2000; i++) {
        add("{\"driver\":\"null-co\",\"node-name\":\"n%u\"}", i);
    }
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        expect(strcmp(blk_node_name(blk_node_find(name)), name) == 0);
        del(name);
        expect(blk_node_find(name) == NULL);
    }
}

/* What QEMU's schema makes mandatory in BlockDeviceInfo and ImageInfo. */
MAIN_LOOP CO_FN
static void described(void *opaque)
{
    static const char *const mandatory[] = {
        "file", "node-name", "ro", "drv", "backing_file_depth", "encrypted", "detect_zeroes",
        "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "image", "cache",
        "write_threshold", "active", "children"};
    static const char *const image[] = {"filename", "format", "virtual-size"};
    const char *path = scratch_file(1 << 20);
    json_t *object;

    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":"
        "{\"driver\":\"file\",\"filename\":\"%s\"}}",
        path);
    object = blk_node_describe(blk_node_find("r"));
    for (size_t i = 0; i < countof(mandatory); i++) {
        expect(json_object_get(object, mandatory[i]) != NULL);
    }
    for (size_t i = 0; i < countof(image); i++) {
        expect(json_object_get(json_object_get(object, "image"), image[i]) != NULL);
    }
    expect(strcmp(json_string_value(json_object_get(object, "file")), path) == 0);
    json_decref(object);
    del("r");
    add("{\"driver\":\"null-co\",\"node-name\":\"n\",\"size\":4096}");
    object = blk_node_describe(blk_node_find("n"));
    expect(strcmp(json_string_value(json_object_get(object, "file")),
                  "json:{\"driver\":\"null-co\",\"size\":4096}") == 0);
    json_decref(object);
    del("n");
}

static void test_bad_options(void **state)
{
    run_co(bad_options, NULL);
}

static void test_inline_children(void **state)
{
    run_co(inline_children, NULL);
}

static void test_all_or_nothing(void **state)
{
    run_co(all_or_nothing, NULL);
}

static void test_deleting(void **state)
{
    run_co(deleting, NULL);
}

static void test_name_while_closing(void **state)
{
    run_co(name_while_closing, NULL);
}

static void test_deep(void **state)
{
    run_co(deep, NULL);
}

static void test_nested_too_deep(void **state)
{
    run_co(nested_too_deep, NULL);
}

static void test_many(void **state)
{
    run_co(many, NULL);
}

static void test_described(void **state)
{
    run_co(described, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        block_test(test_bad_options),        block_test(test_inline_children),
        block_test(test_all_or_nothing),     block_test(test_deleting),
        block_test(test_name_while_closing), block_test(test_deep),
        block_test(test_nested_too_deep),    block_test(test_many),
        block_test(test_described),
    };

    return block_test_main(argc, argv, "node", tests, countof(tests));
}
