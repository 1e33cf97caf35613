/*
 * token.h -- exact counting of what is under way on a root, and its gate.
 *
 * (T1) Each loop has a cell of its own with two counters, raised and dropped; only that loop's
 *      thread writes them, with plain stores, and both only grow. A token raised on one loop may be
 *      dropped on another.
 * (T2) Entry: count raised, light fence, look at the gate. Closed: count dropped, kick, and it
 *      never was. Work made for later raises its own token before its maker drops: raise_under asks
 *      no gate.
 * (T3) Drain: close the gate, heavy fence, then read every dropped before any raised. The sums are
 *      equal: none is out. Proof: a drop seen implies its raise is seen, and so is each raise made
 *      under that token before the drop; so a token that is out when the first "raised" is read is
 *      counted there and was not counted as dropped. Nothing enters any more, so it stays equal
 *      until the gate opens. (One signed counter a loop reads a false zero when a token's work
 *      moves between two reads.)
 * (T4) A drop counts, light fence, looks at the gate, and kicks the main loop if it is closed.
 *      After the count the root may be gone, so gate and kick live in memory that is never anything
 *      else: these blocks are recycled, and given back only at exit. A late look reads the gate of
 *      whoever has the block now; at worst that one's waiters look at their counters once more. So
 *      neither raise nor drop needs an RCU section, and freeing a root waits for no grace period.
 *
 * No line that two threads write: cells are padded to two cache lines (the adjacent-line
 * prefetcher), and the gate's line is written by the main loop alone, seldom. Plain enough for the
 * explorer, which runs these very functions.
 */
#pragma once
#include "base/ctx.h"
#include "base/list.h"
#include "base/macros.h"
#include "sync/asym.h"
#include "sync/atomic.h"

#ifndef BLK_TOKEN_LOOPS
#include "loop/loop.h"
#define BLK_TOKEN_LOOPS LOOPS_MAX
#endif

struct blk_token_cell {
    _Alignas(128) uint64_t raised;
    uint64_t dropped;
};

struct blk_tokens {
    struct blk_token_cell cell[BLK_TOKEN_LOOPS];
    _Alignas(128) uint32_t gate_closed; /* atomic; the main loop writes */
    ANY_SLOT void (*kick)(struct blk_tokens *tokens); /* constant */
    struct bh *kick_bh;                               /* constant */
    void *owner;                                      /* main loop: NULL when the block is free */
    struct list link;                                 /* main loop */
};

/* Something came to an end on @loop while the gate may be closed. */
ANY_THREAD
static inline void blk_tokens_drop(struct blk_tokens *tokens, unsigned loop)
{
    struct blk_token_cell *cell = &tokens->cell[loop];

    /* Release: pairs with blk_tokens_are_idle(), which then sees all that was done under the
     * token. */
    at_store_release_buffered(&cell->dropped, at_load_buffered(&cell->dropped) + 1);
    asym_light(); /* pairs with asym_heavy() between closing a gate and the first look */
    if (unlikely(at_load_relaxed(&tokens->gate_closed))) { /* ordered by the fence pair */
        tokens->kick(tokens);
    }
}

ANY_THREAD
static inline void blk_tokens_raise_under(struct blk_tokens *tokens, unsigned loop)
{
    struct blk_token_cell *cell = &tokens->cell[loop];

    at_store_buffered(&cell->raised, at_load_buffered(&cell->raised) + 1);
}

ANY_THREAD
static inline bool blk_tokens_raise(struct blk_tokens *tokens, unsigned loop)
{
    blk_tokens_raise_under(tokens, loop);
    asym_light(); /* pairs with asym_heavy() between closing a gate and the first look */
    /* Acquire: pairs with blk_tokens_gate_open(); what was changed behind the gate is seen. */
    if (likely(!at_load_acquire(&tokens->gate_closed))) {
        return true;
    }
    blk_tokens_drop(tokens, loop);
    return false;
}

/* Close any number of gates, then asym_heavy() once, then look. */
ANY_THREAD
void blk_tokens_gate_close(struct blk_tokens *tokens);
ANY_THREAD
void blk_tokens_gate_open(struct blk_tokens *tokens);

/* Gate closed and fenced: is no token out? Then none will be until the gate opens. */
ANY_THREAD
bool blk_tokens_are_idle(const struct blk_tokens *tokens);

/* How many are out; exact only while it cannot change, else a good guess for people. */
ANY_THREAD
uint64_t blk_tokens_out(const struct blk_tokens *tokens);
