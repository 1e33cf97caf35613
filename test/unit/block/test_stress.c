/*
 * test_stress.c -- two I/O threads hammer two roots of one graph while the main loop drains, nests,
 * gives up, and opens and frees further roots. STRESS_SECONDS says how long (2 without it).
 *
 * Checked all the time: inside a section no request is in a driver and none enters; a parked
 * request is restarted; freeing a root leaves no token behind.
 */
#include "rig.h"

enum { SUBMITTERS = 4, DEPTH = 4, USERS = 2 };

/* One user's requests of one thread. */
struct submitter {
    struct test_user *user;
    struct loop *home;
    unsigned parked; /* home only */
};

static struct test_user users[USERS];
static struct submitter submitters[USERS][SUBMITTERS];
static bool is_over;                                    /* atomic */
static unsigned in_drain;                               /* atomic: sections that are in */
static unsigned in_driver;                              /* atomic: requests that have a token */
static unsigned ended, parks, restarts_sent, restarted; /* atomic */

CO_FN
static void request(void *opaque);

static void submit(struct submitter *submitter)
{
    loop_co_spawn(submitter->home, request, submitter, "request");
}

/* Under a token. */
CO_FN GRAPH_RD
static void one_io(struct test_user *user)
{
    uint8_t block[512] = {0};
    struct iovec iov = {block, sizeof(block)};
    uint64_t offset = (at_add(&in_driver, 1) % 64) * 512;

    expect(at_load(&in_drain) == 0);
    expect(blk_root_co_preadv(user->root, offset, sizeof(block), &iov, 1, 0) == 0);
    expect(at_load(&in_drain) == 0);
    at_sub(&in_driver, 1);
}

/* Goes on for ever, until parked: then the restart begins another. */
CO_FN
static void request(void *opaque)
{
    struct submitter *submitter = opaque;
    struct blk_root *root = submitter->user->root;

    while (!at_load(&is_over)) {
        if (!blk_root_raise(root)) {
            submitter->parked++;
            at_add(&parks, 1);
            return;
        }
        one_io(submitter->user);
        blk_root_drop(root);
        co_yield_turn();
    }
    at_add(&ended, 1);
}

/* At home, under the token raised for this submitter; the batch enters under it. */
CO_FN
static void restart(void *opaque)
{
    struct submitter *submitter = opaque;
    struct blk_root *root = submitter->user->root;
    unsigned parked = submitter->parked;

    blk_root_assert_token(root);
    submitter->parked = 0;
    one_io(submitter->user);
    blk_root_drop(root);
    for (unsigned i = 0; i < parked; i++) {
        submit(submitter);
    }
    at_add(&restarted, 1);
}

TSA_TRUST /* the tokens travel into the coroutines */
static void user_restart_all(struct test_user *user)
{
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        struct submitter *submitter = &submitters[user - users][i];

        blk_root_raise_under(user->root);
        at_add(&restarts_sent, 1);
        loop_co_spawn(submitter->home, restart, submitter, "restart");
    }
}

MAIN_LOOP CO_FN
static struct blk_section *drain(const char *node)
{
    struct blk_section *section;

    expect(blk_section_co_begin(blk_node_find(node), "stress", 0, &section, NULL) == 0);
    return section;
}

/* A round of what control operations do. */
MAIN_LOOP CO_FN
static void control_round(unsigned round)
{
    struct blk_section *lower = drain("m");
    struct blk_section *upper;
    struct test_user passing;

    at_add(&in_drain, 1);
    expect(at_load(&in_driver) == 0);
    if (round % 3 == 0) {
        upper = drain("r");
        co_yield_turn();
        blk_section_end(upper);
    }
    user_open(&passing, "passing", "r", PERM_READ, BLK_PERM_ALL);
    if (round % 2 == 0) {
        user_close(&passing);
    }
    expect(at_load(&in_driver) == 0);
    at_sub(&in_drain, 1);
    blk_section_end(lower);
    if (round % 2 == 1) {
        user_close(&passing);
    }
    if (round % 16 == 0) {
        loop_co_sleep(1000000);
    }
}

/* Does not look at who is inside: both roots need not be gated at once. */
MAIN_LOOP CO_FN
static void gate_round(void)
{
    blk_root_gate_close(users[0].root);
    blk_root_co_wait_idle(users[0].root);
    blk_root_gate_open(users[0].root);
}

MAIN_LOOP CO_FN
static void start_all(void)
{
    threads_start(2);
    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"yields\":true}");
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"m\"}");
    for (unsigned u = 0; u < USERS; u++) {
        user_open(&users[u], "user", u == 0 ? "r" : "m", PERM_READ, BLK_PERM_ALL);
        users[u].on_restart = user_restart_all;
        for (unsigned i = 0; i < SUBMITTERS; i++) {
            submitters[u][i] = (struct submitter){.user = &users[u], .home = thread_loop(i)};
            for (unsigned k = 0; k < DEPTH; k++) {
                submit(&submitters[u][i]);
            }
        }
    }
}

MAIN_LOOP CO_FN
static void hammer(void *opaque)
{
    const char *seconds = getenv("STRESS_SECONDS");
    unsigned long long length_s = seconds != NULL ? strtoull(seconds, NULL, 0) : 2;
    uint64_t end = loop_now_ns(LOOP_CLOCK_MONOTONIC) + length_s * 1000000000U;
    unsigned round = 0;

    alarm((unsigned)length_s + HANG_SECONDS);
    start_all();
    for (; loop_now_ns(LOOP_CLOCK_MONOTONIC) < end; round++) {
        control_round(round);
        gate_round();
    }
    at_store(&is_over, true);
    while (at_load(&ended) < USERS * SUBMITTERS * DEPTH) { /* parked ones were all restarted */
        loop_co_sleep(1000000);
    }
    while (at_load(&restarted) < at_load(&restarts_sent)) {
        loop_co_sleep(1000000);
    }
    printf("%u rounds, %u requests parked\n", round, at_load(&parks));
    expect(round > 10 && at_load(&parks) > 0);
    for (unsigned u = 0; u < USERS; u++) {
        users[u].on_restart = NULL;
        user_close(&users[u]);
    }
    del("r");
    del("m");
    threads_stop();
}

static void test_hammer(void **state)
{
    run_co(hammer, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {block_test(test_hammer)};

    return block_test_main(argc, argv, "stress", tests, countof(tests));
}
