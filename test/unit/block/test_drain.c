/*
 * test_drain.c -- tokens, gates and drained sections on one loop: who waits for what, who is
 * restarted, what nests, what gives up.
 */
#include "rig.h"
#include "block/graph_int.h"

static uint8_t byte;

/* The linker brings block/'s calls here (--wrap): the fence cannot be seen to be missing
 * otherwise. */
static unsigned fences;
ANY_THREAD
void __real_asym_heavy(void);
ANY_THREAD
void __wrap_asym_heavy(void);
void __wrap_asym_heavy(void)
{
    fences++;
    __real_asym_heavy();
}

MAIN_LOOP CO_FN
static void graph_open(struct test_user *user)
{
    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"m\"}");
    user_open(user, "device 'disk0'", "r", PERM_RW, BLK_PERM_ALL);
}

MAIN_LOOP CO_FN
static void graph_close(struct test_user *user)
{
    user_close(user);
    del("r");
    del("m");
}

MAIN_LOOP CO_FN
static struct blk_section *section_begin(const char *node)
{
    struct blk_section *section;

    expect(blk_section_co_begin(blk_node_find(node), "test", 0, &section, NULL) == 0);
    return section;
}

/* A request that is under way until `is_stuck` is cleared. */
static unsigned stuck_done; /* atomic */

CO_FN
static void stuck_request(void *opaque)
{
    uint8_t in;

    expect(user_read(opaque, 0, &in, 1) == 0);
    at_add(&stuck_done, 1);
}

MAIN_LOOP CO_FN
static void begin_stuck(struct test_user *user)
{
    at_store(&stuck_done, 0);
    at_store(&mem_disk("m")->is_stuck, true);
    begin(loop_main(), stuck_request, user);
    co_yield_turn();
    co_yield_turn();
}

struct sectioner {
    struct blk_section *section;
    const char *node;
    bool is_in; /* atomic */
    unsigned done_when_in;
};

MAIN_LOOP CO_FN
static void section_in_background(void *opaque)
{
    struct sectioner *sectioner = opaque;

    loop_assert_main();
    sectioner->section = section_begin(sectioner->node);
    sectioner->done_when_in = at_load(&stuck_done);
    at_store(&sectioner->is_in, true);
}

/* A section waits for the token, says so meanwhile, parks what comes, restarts once. */
MAIN_LOOP CO_FN
static void waits_for_tokens(void *opaque)
{
    struct sectioner sectioner = {.node = "m"};
    struct test_user user;
    json_t *waits = json_array();
    json_t *wait;

    graph_open(&user);
    begin_stuck(&user);
    begin(loop_main(), section_in_background, &sectioner);
    loop_co_sleep(2000000);
    expect(!at_load(&sectioner.is_in));
    expect(user_read(&user, 0, &byte, 1) == -EAGAIN); /* gated already */
    blk_sections_describe(waits);
    expect(json_array_size(waits) == 1);
    wait = json_array_get(waits, 0);
    expect(strcmp(json_string_value(json_object_get(wait, "kind")), "drain") == 0);
    expect(strcmp(json_string_value(json_object_get(wait, "owner")), "test") == 0);
    expect(strcmp(json_string_value(json_object_get(wait, "node-name")), "m") == 0);
    wait = json_array_get(json_object_get(wait, "waits-for"), 0);
    expect(strcmp(json_string_value(json_object_get(wait, "user")), "device 'disk0'") == 0);
    expect(json_integer_value(json_object_get(wait, "requests")) == 1);
    json_decref(waits);
    at_store(&mem_disk("m")->is_stuck, false);
    join();
    expect(sectioner.done_when_in == 1);
    expect(user.restarts == 0);
    expect(user_read(&user, 0, &byte, 1) == -EAGAIN);
    blk_section_end(sectioner.section);
    expect(user.restarts == 1);
    expect(user_read(&user, 0, &byte, 1) == 0);
    graph_close(&user);
}

/* Sections of several owners, on several nodes, nested in any order: one restart, at the last
 * end. */
MAIN_LOOP CO_FN
static void nesting(void *opaque)
{
    struct blk_section *a, *b, *c;
    struct test_user user, other;

    graph_open(&user);
    user_open(&other, "device 'disk1'", "m", PERM_READ, BLK_PERM_ALL);
    fences = 0;
    a = section_begin("m");
    expect(fences == 1); /* one for both gates */
    b = section_begin("r");
    c = section_begin("m");
    blk_root_gate_close(user.root);
    expect(fences == 1); /* all were closed already */
    expect(blk_root_is_gated(user.root) && blk_root_is_gated(other.root));
    blk_section_end(a);
    expect(other.restarts == 0);
    blk_section_end(c); /* only disk0 is above r */
    expect(other.restarts == 1 && !blk_root_is_gated(other.root));
    expect(user.restarts == 0 && blk_root_is_gated(user.root));
    blk_section_end(b);
    expect(user.restarts == 0);
    blk_root_gate_open(user.root);
    expect(user.restarts == 1 && !blk_root_is_gated(user.root));
    user_close(&other);
    graph_close(&user);
}

/* Draining a node leaves the other users of what lies below alone. */
MAIN_LOOP CO_FN
static void siblings_run(void *opaque)
{
    struct blk_section *section;
    struct test_user user, other;

    graph_open(&user);
    user_open(&other, "device 'disk1'", "m", PERM_READ, BLK_PERM_ALL);
    begin_stuck(&other);
    section = section_begin("r"); /* does not wait for disk1's request */
    expect(at_load(&stuck_done) == 0);
    at_store(&mem_disk("m")->is_stuck, false);
    expect(user_read(&other, 0, &byte, 1) == 0);
    blk_section_end(section);
    join();
    user_close(&other);
    graph_close(&user);
}

/* (D3), (G1): attach above a node that is drained: born gated, and nobody is waited for. */
MAIN_LOOP CO_FN
static void attach_while_drained(void *opaque)
{
    struct blk_section *section;
    struct test_user user, other;

    graph_open(&user);
    section = section_begin("m");
    add("{\"driver\":\"raw\",\"node-name\":\"r2\",\"file\":\"m\"}");
    user_open(&other, "device 'disk1'", "r2", PERM_READ, BLK_PERM_ALL);
    expect(blk_root_is_gated(other.root));
    expect(user_read(&other, 0, &byte, 1) == -EAGAIN);
    blk_section_end(section);
    expect(other.restarts == 1);
    expect(user_read(&other, 0, &byte, 1) == 0);
    section = section_begin("m");
    user_close(&other);
    del("r2");
    blk_section_end(section);
    expect(user.restarts == 2);
    begin_stuck(&user);
    user_open(&other, "device 'disk1'", "m", PERM_READ, BLK_PERM_ALL); /* a busy node */
    user_close(&other);
    at_store(&mem_disk("m")->is_stuck, false);
    join();
    graph_close(&user);
}

/* (D6) */
MAIN_LOOP CO_FN
static void deadline(void *opaque)
{
    struct blk_section *section = NULL;
    struct err *error = NULL;
    struct test_user user;

    graph_open(&user);
    begin_stuck(&user);
    expect(blk_section_co_begin(blk_node_find("m"), "blockdev-test 'x'",
                                loop_now_ns(LOOP_CLOCK_MONOTONIC) + 20000000, &section,
                                &error) == -ETIMEDOUT);
    expect(strstr(error->text, "blockdev-test 'x': node 'm' did not come to rest in time, it is "
                               "used by device 'disk0' (1 under way)") != NULL);
    err_free(error);
    expect(section == NULL && user.restarts == 1);
    at_store(&mem_disk("m")->is_stuck, false);
    expect(user_read(&user, 0, &byte, 1) == 0);
    join();
    graph_close(&user);
}

/* A section outlives the name of its node; so does one of a node without users. */
MAIN_LOOP CO_FN
static void section_keeps_node(void *opaque)
{
    struct sectioner sectioner = {.node = "m"};
    struct blk_section *section;

    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    section = section_begin("m");
    begin(loop_main(), section_in_background, &sectioner);
    join();
    blk_section_end(sectioner.section);
    blk_section_end(section);
    del("m");
}

/* ---- what is restarted enters under its token ------------------------------------------------ */

static unsigned entered;

TSA_TRUST /* two tokens of one root */
CO_FN
static void restarted_batch(void *opaque)
{
    struct test_user *user = opaque;
    struct iovec iov = {&byte, 1};

    blk_root_assert_token(user->root);
    blk_root_raise_under(user->root); /* as many as were parked */
    expect(blk_root_co_preadv(user->root, 0, 1, &iov, 1, 0) == 0);
    entered++;
    blk_root_drop(user->root);
    blk_root_drop(user->root);
}

TSA_TRUST /* the token travels into the coroutine */
static void restart_one(struct test_user *user)
{
    blk_root_raise_under(user->root);
    begin(loop_main(), restarted_batch, user);
}

/* (D4), RACES 21: 200 sections back to back; each end admits one parked request, the next waits for
 *      it. */
MAIN_LOOP CO_FN
static void restart_then_next(void *opaque)
{
    struct test_user user;

    graph_open(&user);
    mem_disk("m")->yields = true;
    user.on_restart = restart_one;
    entered = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct blk_section *section = section_begin("m");

        expect(entered == i); /* the batch of the former end is through */
        blk_section_end(section);
    }
    join();
    expect(entered == 200);
    user.on_restart = NULL;
    graph_close(&user);
}

/* ---- scheduled work is flushed --------------------------------------------------------------- */

static unsigned hops;

TSA_TRUST /* the token travels from BH to BH */
HOME_LOOP
static void hop(void *opaque)
{
    struct test_user *user = opaque;

    if (++hops < 50) {
        blk_root_raise_under(user->root);
        bh_once(loop_main(), hop, user, "hop");
    }
    blk_root_drop(user->root);
}

TSA_TRUST /* as above */
MAIN_LOOP CO_FN
static void scheduled_work(void *opaque)
{
    struct blk_section *section;
    struct test_user user;

    graph_open(&user);
    hops = 0;
    expect(blk_root_raise(user.root));
    blk_root_raise_under(user.root);
    bh_once(loop_main(), hop, &user, "hop");
    blk_root_drop(user.root);
    section = section_begin("r");
    expect(hops == 50);
    blk_section_end(section);
    graph_close(&user);
}

/* ---- roots ----------------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static void free_in_background(void *opaque)
{
    struct test_user *user = opaque;

    loop_assert_main();
    user_close(user);
}

/* Freeing a root waits for its tokens, and only for its own. */
MAIN_LOOP CO_FN
static void free_while_busy(void *opaque)
{
    struct test_user user, other;
    struct blk_root *root;

    graph_open(&user);
    user_open(&other, "device 'disk1'", "m", PERM_READ, BLK_PERM_ALL);
    begin_stuck(&user);
    user_close(&other);
    root = user.root;
    begin(loop_main(), free_in_background, &user);
    loop_co_sleep(2000000);
    del_fails("r", "in use by device 'disk0'");
    expect(root->gate == 1);
    user.root = root; /* for the request that is still in it */
    at_store(&mem_disk("m")->is_stuck, false);
    join();
    del("r");
    del("m");
}

/* A section waits for a root's last token; it comes back, and the root is freed before the kick
 * that tells of it has run. */
TSA_TRUST /* the token of one stretch */
MAIN_LOOP CO_FN
static void free_before_the_kick(void *opaque)
{
    struct sectioner sectioner = {.node = "m"};
    struct test_user user;

    graph_open(&user);
    expect(blk_root_raise(user.root));
    begin(loop_main(), section_in_background, &sectioner);
    loop_co_sleep(2000000);
    expect(!at_load(&sectioner.is_in));
    blk_root_drop(user.root);
    user_close(&user);
    join();
    blk_section_end(sectioner.section);
    del("r");
    del("m");
}

/* A block of counters serves one root after the other, and the sums stay right. */
MAIN_LOOP CO_FN
static void blocks_are_recycled(void *opaque)
{
    struct blk_tokens *tokens = NULL;
    struct test_user user;

    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    for (unsigned i = 0; i < 10; i++) {
        user_open(&user, "x", "m", PERM_READ, BLK_PERM_ALL);
        expect(tokens == NULL || user.root->tokens == tokens);
        tokens = user.root->tokens;
        expect(user_read(&user, 0, &byte, 1) == 0);
        expect(tokens->cell[0].raised == i + 1 && tokens->cell[0].dropped == i + 1);
        user_close(&user);
    }
    del("m");
}

#define RUN(name)                                                                                  \
    static void test_##name(void **state)                                                         \
    {                                                                                              \
        run_co(name, NULL);                                                                        \
    }
RUN(waits_for_tokens)
RUN(nesting)
RUN(siblings_run)
RUN(attach_while_drained)
RUN(deadline)
RUN(section_keeps_node)
RUN(restart_then_next)
RUN(scheduled_work)
RUN(free_while_busy)
RUN(free_before_the_kick)
RUN(blocks_are_recycled)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        block_test(test_waits_for_tokens),     block_test(test_nesting),
        block_test(test_siblings_run),         block_test(test_attach_while_drained),
        block_test(test_deadline),             block_test(test_section_keeps_node),
        block_test(test_restart_then_next),    block_test(test_scheduled_work),
        block_test(test_free_while_busy),      block_test(test_free_before_the_kick),
        block_test(test_blocks_are_recycled),
    };

    return block_test_main(argc, argv, "drain", tests, countof(tests));
}
