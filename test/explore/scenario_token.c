/*
 * scenario_token.c -- block/token.h and token.c: who enters is seen by whoever closes the gate, the
 * sum is exact while work moves between loops, and no last drop is missed. Stores are held back in
 * store buffers.
 *
 * Actor 0 is the main loop, which drains; 1 and 2 are loops, with cells 0 and 1. `out` is the truth
 * that the counters must tell. A missed drop leaves the main loop waiting for ever: "stuck".
 */
#define BLK_TOKEN_LOOPS 2
#include "explore.h"
#include "src/block/token.c"
#include <string.h>

enum { MAIN, ONE, TWO, ROOTS = 2 };           /* actors */
enum { CELL_ONE, CELL_TWO, CELL_MAIN = CELL_ONE }; /* the main loop's: only in "reopen" */

static struct blk_tokens blocks[ROOTS];
static unsigned out[ROOTS];    /* tokens that are out, whatever the counters say */
static bool quiet[ROOTS];      /* the main loop relies on nobody being inside */
static uint32_t kicks, handed, child_is_out, published;
static unsigned the_graph;     /* changed by the main loop behind a closed gate */

/* ---- bugs that are planted ---- */

static bool no_heavy, ups_first, no_second_look, drops_silently, gives_back, restarts_bare;
static bool fences_between, looks_once, new_comes_first;

/* As bh_schedule() does it: a read-modify-write, then the wake-up. */
ANY_THREAD
static void kick(struct blk_tokens *tokens)
{
    explore_check(tokens == &blocks[0] || tokens == &blocks[1]);
    at_or(&kicks, 1);
    explore_unpark(MAIN);
}

ANY_THREAD
static void kick_of_nobody(struct blk_tokens *tokens)
{
    explore_fail("the block of a token was given back before the last look at its gate");
}

static void setup(void)
{
    memset(blocks, 0, sizeof(blocks));
    for (unsigned i = 0; i < ROOTS; i++) {
        blocks[i].kick = kick;
        blocks[i].owner = &out[i];
        out[i] = 0;
        quiet[i] = false;
    }
    kicks = handed = child_is_out = published = 0;
    the_graph = 1;
    no_heavy = ups_first = no_second_look = drops_silently = gives_back = restarts_bare = false;
    fences_between = looks_once = new_comes_first = false;
}

/* ---- what an actor does ---- */

static bool token_raise(unsigned root, unsigned loop)
{
    if (no_second_look) {
        blk_tokens_raise_under(&blocks[root], loop);
    } else if (!blk_tokens_raise(&blocks[root], loop)) {
        return false;
    }
    out[root]++;
    return true;
}

static void token_raise_under(unsigned root, unsigned loop)
{
    blk_tokens_raise_under(&blocks[root], loop);
    out[root]++;
}

static void token_drop(unsigned root, unsigned loop)
{
    struct blk_token_cell *cell = &blocks[root].cell[loop];

    explore_check(!quiet[root]);
    out[root]--;
    if (drops_silently) {
        at_store_release_buffered(&cell->dropped, at_load_buffered(&cell->dropped) + 1);
    } else {
        blk_tokens_drop(&blocks[root], loop);
    }
}

static void enter_and_leave(unsigned root, unsigned loop)
{
    unsigned seen;

    if (!token_raise(root, loop)) {
        return;
    }
    seen = the_graph;
    explore_step("inside");
    explore_check(the_graph == seen);
    token_drop(root, loop);
}

static void heavy(void)
{
    if (!no_heavy) {
        asym_heavy();
    }
}

/* Counted the wrong way round: a token that moves between the two readings is not seen. */
static bool is_idle_broken(const struct blk_tokens *tokens)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < BLK_TOKEN_LOOPS; i++) {
        sum += at_load_buffered(&tokens->cell[i].raised);
    }
    for (unsigned i = 0; i < BLK_TOKEN_LOOPS; i++) {
        sum -= at_load_acquire_buffered(&tokens->cell[i].dropped);
    }
    return sum == 0;
}

/* Gate closed and fenced: wait, and then rely on it. */
static void wait_idle(unsigned root)
{
    while (!(ups_first ? is_idle_broken : blk_tokens_are_idle)(&blocks[root])) {
        if (looks_once) {
            return;
        }
        explore_park();
    }
    explore_check(out[root] == 0);
    quiet[root] = true;
}

static void drain(unsigned root)
{
    blk_tokens_gate_close(&blocks[root]);
    heavy();
    wait_idle(root);
}

/* While it is quiet the graph may change; nobody who is inside sees that. */
static void change_and_open(unsigned root)
{
    the_graph++;
    explore_check(out[root] == 0);
    quiet[root] = false;
    blk_tokens_gate_open(&blocks[root]);
}

static bool is_set(void *opaque)
{
    return *(uint32_t *)opaque != 0;
}

static void nobody_is_left(void)
{
    for (unsigned i = 0; i < ROOTS; i++) {
        explore_check(out[i] == 0);
        explore_check(blk_tokens_are_idle(&blocks[i]));
    }
}

/* ---- entry against the closing of the gate ---- */

static void entry(unsigned i)
{
    if (i == MAIN) {
        drain(0);
        change_and_open(0);
        return;
    }
    enter_and_leave(0, i - 1);
}

/* ---- a token's work moves from loop to loop ---- */

static void move_setup(void)
{
    setup();
    blocks[0].cell[CELL_ONE].raised = 1; /* a request is under way on loop 1 */
    out[0] = 1;
}

/* Loop 2 raises one under the first, then either of the two drops the first. */
static void move(unsigned i)
{
    if (i == MAIN) {
        drain(0);
    } else if (i == ONE) {
        at_store(&handed, 1 + explore_choose(2, "who drops"));
        if (handed == 1) {
            explore_wait(is_set, &child_is_out, "child");
            token_drop(0, CELL_ONE);
        }
    } else {
        explore_wait(is_set, &handed, "handed");
        token_raise_under(0, CELL_TWO);
        if (handed == 2) {
            token_drop(0, CELL_TWO);
        } else {
            at_store(&child_is_out, 1);
        }
        explore_step("the child works");
        token_drop(0, CELL_TWO);
    }
}

/* ---- the last drop of a root whose block is already another's ---- */

static void recycle_main(void)
{
    drain(0);
    if (gives_back) {
        blocks[0].kick = kick_of_nobody;
        explore_step("given back");
        return;
    }
    blocks[0].owner = &published;
    quiet[0] = false;
    blk_tokens_gate_open(&blocks[0]); /* the next root's */
    at_store(&published, 1);
    drain(0);
}

static void recycle(unsigned i)
{
    if (i == MAIN) {
        recycle_main();
    } else if (i == ONE) {
        token_drop(0, CELL_ONE);
    } else {
        explore_wait(is_set, &published, "published");
        enter_and_leave(0, CELL_TWO);
    }
}

/* ---- two roots above one node, one fence ---- */

static void two_roots(unsigned i)
{
    if (i != MAIN) {
        enter_and_leave(i - 1, i - 1);
        return;
    }
    blk_tokens_gate_close(&blocks[0]);
    if (fences_between) {
        asym_heavy();
    }
    blk_tokens_gate_close(&blocks[1]);
    if (!fences_between) {
        asym_heavy();
    }
    wait_idle(0);
    wait_idle(1);
    explore_check(out[0] == 0 && out[1] == 0); /* the first is idle still: (D5) */
}

/* ---- a section ends, the next begins at once ---- */

static void reopen_setup(void)
{
    setup();
    blocks[0].gate_closed = 1;
    quiet[0] = true;
}

/* As drain.c (D4): under a token, open, send the restart with a token of its own, drop. */
static void reopen_main(void)
{
    blk_tokens_raise_under(&blocks[0], CELL_MAIN);
    change_and_open(0);
    if (!restarts_bare) {
        token_raise_under(0, CELL_MAIN);
    } else {
        out[0]++; /* what is restarted counts, but nobody counted it */
    }
    at_store(&handed, 1);
    blk_tokens_drop(&blocks[0], CELL_MAIN);
    drain(0);
}

/* A loop restarts what was parked under the token it was sent; before it perhaps comes a new
 * one. */
static void reopen(unsigned i)
{
    if (i == MAIN) {
        reopen_main();
        return;
    }
    if (new_comes_first) {
        enter_and_leave(0, CELL_TWO);
    }
    explore_wait(is_set, &handed, "restart");
    token_raise_under(0, CELL_TWO);
    token_drop(0, CELL_TWO); /* the one that came with the message */
    explore_step("restarted");
    token_drop(0, CELL_TWO);
}

/* ---- variants ---- */

#define VARIANT(name, base, ...)                                                                   \
    static void name(void)                                                                         \
    {                                                                                              \
        base();                                                                                    \
        __VA_ARGS__;                                                                               \
    }
VARIANT(entry_no_heavy, setup, no_heavy = looks_once = true)
VARIANT(drop_no_heavy, setup, no_heavy = true)
VARIANT(entry_no_look, setup, no_second_look = true)
VARIANT(entry_silent_drop, setup, drops_silently = true)
VARIANT(move_ups_first, move_setup, ups_first = true)
VARIANT(recycle_given_back, move_setup, gives_back = true)
VARIANT(two_roots_early_fence, setup, fences_between = looks_once = true)
VARIANT(reopen_new, reopen_setup, new_comes_first = true)
VARIANT(reopen_bare, reopen_setup, restarts_bare = true)

int main(int argc, char **argv)
{
    static const struct explore_scenario scenarios[] = {
        {"entry", 3, entry, setup, nobody_is_left, .bound = 1, .schedules = 250000},
        {"entry-alone", 2, entry, setup, nobody_is_left, .bound = 3, .schedules = 80000},
        {"entry-no-heavy-fence", 2, entry, entry_no_heavy, .must_fail = "out[root] == 0"},
        {"drop-no-heavy-fence", 2, entry, drop_no_heavy, .must_fail = "stuck"},
        {"entry-gate-not-looked-at", 2, entry, entry_no_look, .must_fail = "out[root] == 0"},
        {"entry-drop-does-not-look", 2, entry, entry_silent_drop, .must_fail = "stuck"},
        {"move", 3, move, move_setup, nobody_is_left, .bound = 2, .schedules = 80000},
        {"move-ups-before-downs", 3, move, move_ups_first, .must_fail = "out[root] == 0"},
        {"recycle", 3, recycle, move_setup, nobody_is_left, .bound = 2, .schedules = 80000},
        {"recycle-given-back", 2, recycle, recycle_given_back, .must_fail = "given back"},
        {"two-roots", 3, two_roots, setup, nobody_is_left, .bound = 1, .schedules = 80000},
        {"two-roots-fence-too-early", 3, two_roots, two_roots_early_fence, .must_fail = "] == 0"},
        {"reopen", 2, reopen, reopen_setup, nobody_is_left, .bound = 1, .schedules = 100000},
        {"reopen-new", 2, reopen, reopen_new, nobody_is_left, .bound = 1, .schedules = 80000},
        {"reopen-restart-without-token", 2, reopen, reopen_bare, .must_fail = "out[root] == 0"},
    };

    return explore_main(argc, argv, scenarios, countof(scenarios));
}
