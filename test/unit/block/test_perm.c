/* test_perm.c -- permissions: who excludes whom, what travels down, what drivers are told. */
#include "rig.h"

MAIN_LOOP CO_FN
static void conflicts(void *opaque)
{
    struct test_user writer, reader;

    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    user_open(&writer, "device 'disk0'", "m", PERM_RW, PERM_READ);
    user_open_fails("m", PERM_RW, BLK_PERM_ALL,
                    "Permission conflict on node 'm': permissions 'write' are both required by "
                    "user 'refused' and unshared by device 'disk0'");
    user_open_fails("m", PERM_READ, PERM_READ,
                    "permissions 'write' are both required by device 'disk0' and unshared by "
                    "user 'refused'");
    user_open(&reader, "export 'e0'", "m", PERM_READ, BLK_PERM_ALL);
    user_open_fails("m", BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL, "'write, resize'");
    user_close(&writer);
    user_open(&writer, "device 'disk1'", "m", PERM_RW, PERM_RW);
    user_close(&writer);
    user_close(&reader);
    del("m");
}

/* What the users of raw take and refuse, its file sees as taken and refused by raw. */
MAIN_LOOP CO_FN
static void passed_on(void *opaque)
{
    struct test_user one, two;

    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    add("{\"driver\":\"raw\",\"node-name\":\"a\",\"file\":\"m\"}");
    add("{\"driver\":\"raw\",\"node-name\":\"b\",\"file\":\"m\"}");
    expect(mem_disk("m")->perm == 0 && mem_disk("m")->unshared == 0);
    user_open(&one, "device 'disk0'", "a", PERM_RW, PERM_READ);
    expect(mem_disk("m")->perm == PERM_RW);
    expect(mem_disk("m")->unshared == (BLK_PERM_ALL & ~PERM_READ));
    user_open_fails("b", PERM_RW, BLK_PERM_ALL,
                    "Permission conflict on node 'm': permissions 'write' are both required by "
                    "node 'b' as 'file' and unshared by node 'a' as 'file'");
    user_open(&two, "device 'disk1'", "b", PERM_READ, BLK_PERM_ALL);
    user_close(&one);
    expect(mem_disk("m")->perm == PERM_READ && mem_disk("m")->unshared == 0);
    user_open(&one, "device 'disk0'", "b", PERM_RW, BLK_PERM_ALL);
    user_close(&one);
    user_close(&two);
    expect(mem_disk("m")->perm == 0);
    del("a");
    del("b");
    del("m");
}

MAIN_LOOP CO_FN
static void read_only(void *opaque)
{
    struct test_user user;
    uint8_t byte = 1;

    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"read-only\":true}");
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"m\"}");
    user_open_fails("m", PERM_RW, BLK_PERM_ALL,
                    "Block node 'm' is read-only, but user 'refused' wants to write");
    user_open_fails("r", PERM_RW, BLK_PERM_ALL,
                    "Block node 'm' is read-only, but node 'r' as 'file' wants to write");
    user_open(&user, "device 'disk0'", "r", PERM_READ, BLK_PERM_ALL);
    expect(user_read(&user, 0, &byte, 1) == 0);
    user_close(&user);
    del("r");
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"m\",\"auto-read-only\":true}");
    expect(blk_node_is_read_only(blk_node_find("r")));
    del("r");
    del("m");
}

/* A driver that refuses: the graph is as before, and its locks too. */
MAIN_LOOP CO_FN
static void driver_refuses(void *opaque)
{
    struct test_user user;

    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"m\"}");
    user_open(&user, "device 'disk0'", "r", PERM_READ, BLK_PERM_ALL);
    mem_disk("m")->perms_answer = -EAGAIN;
    user_open_fails("r", PERM_RW, BLK_PERM_ALL, "mem says no");
    expect(mem_disk("m")->perm == PERM_READ);
    mem_disk("m")->perms_answer = 0;
    user_close(&user);
    user_open(&user, "device 'disk0'", "r", PERM_RW, PERM_RW);
    user_close(&user);
    del("r");
    del("m");
}

static struct blk_root *racers[2];
static int racer_rc[2];

MAIN_LOOP
static const char *racer_describe(void *opaque)
{
    return "racer";
}

MAIN_LOOP CO_FN
static void racer(void *opaque)
{
    static const struct blk_root_ops ops = {.describe = racer_describe};
    unsigned i = (unsigned)(uintptr_t)opaque;

    loop_assert_main();
    racer_rc[i] = blk_root_co_new(blk_node_find("m"), PERM_RW, PERM_READ, &ops, NULL, &racers[i],
                                  NULL);
}

/* Two exclusive users at once, while the driver is slow to lock: one gets it, both know (G2). */
MAIN_LOOP CO_FN
static void race(void *opaque)
{
    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    begin(loop_main(), racer, (void *)0);
    begin(loop_main(), racer, (void *)1);
    co_yield_turn();
    del_fails("m", "in use by somebody who is being attached to it");
    join();
    expect((racer_rc[0] == 0) != (racer_rc[1] == 0));
    for (unsigned i = 0; i < 2; i++) {
        if (racer_rc[i] == 0) {
            blk_root_co_free(racers[i]);
        }
    }
    expect(mem_disk("m")->perm == 0 && mem_disk("m")->unshared == 0);
    del("m");
}

static void test_conflicts(void **state)
{
    run_co(conflicts, NULL);
}

static void test_passed_on(void **state)
{
    run_co(passed_on, NULL);
}

static void test_read_only(void **state)
{
    run_co(read_only, NULL);
}

static void test_driver_refuses(void **state)
{
    run_co(driver_refuses, NULL);
}

static void test_race(void **state)
{
    run_co(race, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        block_test(test_conflicts),      block_test(test_passed_on), block_test(test_read_only),
        block_test(test_driver_refuses), block_test(test_race),
    };

    return block_test_main(argc, argv, "perm", tests, countof(tests));
}
