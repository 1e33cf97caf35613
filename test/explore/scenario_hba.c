/*
 * scenario_hba.c -- device/hba_queue.c and hba_park.c, with block/token.c and scsi/target.c: queues
 * that move, LUNs that go, sections that end.
 *
 * Actor 0 runs the main loop, 1 and 2 loops; a loop here is two lists, of bottom halves and of
 * coroutines that are ready. What the ring itself does (hba_ring.c) and a command's way
 * (hba_request.c, (R1) and (R2)) is told in a few lines; who may do it where and when is the real
 * thing.
 */
#define BLK_TOKEN_LOOPS 3
#include "explore.h"
#include "src/block/token.c"
#include "base/mem.h"
#include "co/co.h"
#include "device/hba_ring_int.h"
#include "scsi/lu_int.h"
#include "scsi/target.h"
#include <string.h>

enum { MAIN, ONE, TWO, LOOPS, REQUESTS = 2 };

/* ---- loops ---- */

struct bh {
    struct list link;
    HOME_SLOT bh_fn *fn;
    void *opaque;
};

struct loop {
    struct co_sched sched;
    struct co *ready, **ready_end;
    struct list bhs;
};
static struct loop loops[LOOPS];
static bool is_over;

struct loop *loop_self(void)
{
    return explore_self() < 0 ? NULL : &loops[explore_self()];
}
struct loop *loop_main(void)
{
    return &loops[MAIN];
}
const char *loop_name(const struct loop *loop)
{
    return "explored";
}
void loop_assert_home(const struct loop *loop)
{
    explore_check(loop == loop_self());
}
void loop_co_move(struct loop *loop)
{
    co_move(&loop->sched);
}

static void ready(struct co_sched *sched, struct co *co)
{
    struct loop *loop = container_of(sched, struct loop, sched);

    at_fence(); /* a compare-and-swap puts it there */
    *co_link(co) = NULL;
    *loop->ready_end = co;
    loop->ready_end = co_link(co);
}

void bh_once(struct loop *loop, bh_fn *fn, void *opaque, const char *name)
{
    struct bh *bh = mem_new(struct bh);

    *bh = (struct bh){.fn = fn, .opaque = opaque};
    at_fence(); /* likewise */
    list_add_tail(&loop->bhs, &bh->link);
}

static bool has_news(void *opaque)
{
    const struct loop *loop = opaque;

    return is_over || loop->ready != NULL || !list_is_empty(&loop->bhs);
}

HOME_LOOP
static void run_bh(struct loop *loop)
{
    struct bh *bh = list_entry(list_pop_head(&loop->bhs), struct bh, link);
    struct bh copy = *bh;

    mem_free(bh);
    copy.fn(copy.opaque);
}

HOME_LOOP
static void run_co(struct loop *loop)
{
    struct co *co = loop->ready;

    loop->ready = *co_link(co);
    if (loop->ready == NULL) {
        loop->ready_end = &loop->ready;
    }
    co_resume(co);
}

TSA_TRUST
static void loop_actor(unsigned i)
{
    struct loop *loop = &loops[i];

    rcu_thread_register();
    for (;;) {
        at_fence(); /* who goes to sleep announces it by a read-modify-write */
        explore_wait(has_news, loop, "loop");
        if (!list_is_empty(&loop->bhs)) {
            run_bh(loop);
        } else if (loop->ready != NULL) {
            run_co(loop);
        } else {
            break;
        }
    }
    co_pool_release();
    rcu_thread_unregister();
}

/* ---- the adapter: one queue that has requests, on loop 1 at first ---- */

static struct hba hba;
static struct hba_queue queues[HBA_FIXED_QUEUES + 1];
static struct hba_ring ring;
static struct hba_request requests[REQUESTS];
static struct loop *attached_to;
static int toucher; /* the actor that is in the ring; -1: nobody */
static unsigned rounds, answered[REQUESTS], sent, parts_left;
static bool tokenless; /* commands that need no medium */

/* (Q1): only at home, one at a time. */
static void touch(const struct hba_queue *queue)
{
    explore_check(queue->home == loop_self());
    explore_check(toucher == -1);
    toucher = explore_self();
    explore_step("in the ring");
    explore_check(toucher == explore_self());
    toucher = -1;
}

static void part_ends(void)
{
    explore_check(parts_left > 0);
    is_over = --parts_left == 0;
}

int hba_ring_attach(struct hba_ring *of)
{
    touch(of->queue);
    explore_check(!of->attached);
    of->attached = true;
    attached_to = loop_self();
    return 0;
}
void hba_ring_detach(struct hba_ring *of)
{
    touch(of->queue);
    explore_check(of->attached && attached_to == loop_self());
    of->attached = false;
}
void hba_ring_break(struct hba_ring *of, const char *format, ...)
{
    explore_fail("no ring breaks here");
}
void hba_slot_show(struct hba_slot *slot, enum hba_request_state state, uint8_t target,
                   uint16_t lun, const uint8_t *cdb, uint64_t lun_serial)
{
}
void hba_request_complete(struct hba_request *request, uint8_t response)
{
    touch(&queues[HBA_FIXED_QUEUES]);
    explore_check(answered[request->tag]++ == 0);
    part_ends();
}
void hba_request_complete_sense(struct hba_request *request, struct scsi_sense sense)
{
    hba_request_complete(request, 0);
}

/* ---- the root of the LUN: its tokens ---- */

struct blk_root {
    struct blk_tokens tokens;
    bool freed;
};
static struct blk_root root;
static struct hba_lun lun;
static struct scsi_port port;
static struct co_wait idle_wait;
static bool waits_for_idle;

HOME_LOOP
static void kicked(void *opaque)
{
    if (waits_for_idle && blk_tokens_are_idle(&root.tokens)) {
        waits_for_idle = false;
        co_wait_complete(&idle_wait, 0);
    }
}
ANY_THREAD
static void kick(struct blk_tokens *tokens)
{
    bh_once(&loops[MAIN], kicked, NULL, "kick");
}

TSA_TRUST
bool blk_root_raise(struct blk_root *of)
{
    explore_check(!of->freed);
    return blk_tokens_raise(&of->tokens, (unsigned)explore_self());
}
TSA_TRUST
void blk_root_raise_under(struct blk_root *of)
{
    explore_check(!of->freed);
    blk_tokens_raise_under(&of->tokens, (unsigned)explore_self());
}
TSA_TRUST
void blk_root_drop(struct blk_root *of)
{
    explore_check(!of->freed);
    blk_tokens_drop(&of->tokens, (unsigned)explore_self());
}
TSA_TRUST
void blk_root_assert_token(const struct blk_root *of)
{
    explore_check(!of->freed);
}

CO_FN
static void co_drain(void)
{
    blk_tokens_gate_close(&root.tokens);
    asym_heavy();
    co_wait_init(&idle_wait);
    if (!blk_tokens_are_idle(&root.tokens)) {
        waits_for_idle = true;
        co_wait_block(&idle_wait);
    }
    explore_check(blk_tokens_are_idle(&root.tokens));
}

/* ---- a command's way: (R1), (R2) of hba_request.c ---- */

CO_FN TSA_TRUST
static void request_co(void *opaque)
{
    struct hba_request *request = opaque;
    struct blk_root *of = request->lun->root;

    blk_root_assert_token(of);
    hba_queue_co_enter(request->slot.ring->queue);
    hba_request_complete(request, 0);
    blk_root_drop(of);
}

HOME_LOOP
static void request_run(struct hba_request *request)
{
    co_start(co_new(request_co, request, &loop_self()->sched, "request"));
}
TSA_TRUST
void hba_request_start_under(struct hba_request *request)
{
    blk_root_raise_under(request->lun->root);
    request_run(request);
}

/* A bottom half at home: look up; raise, or park. */
HOME_LOOP TSA_TRUST
static void request_serve(void *opaque)
{
    struct hba_request *request = opaque;
    struct scsi_slot *slot;

    touch(&queues[HBA_FIXED_QUEUES]);
    rcu_read_enter();
    slot = scsi_table_find(hba.table, 0, 0);
    rcu_read_leave();
    if (slot == NULL) {
        hba_request_complete(request, 0);
        return;
    }
    request->lun = container_of(slot, struct hba_lun, slot);
    explore_step("looked up");
    if (tokenless) {
        explore_check(!root.freed);
        hba_request_complete(request, 0);
    } else if (hba_ring_has_parked(&ring, request->lun) || !blk_root_raise(request->lun->root)) {
        hba_request_park(request);
    } else {
        request_run(request);
    }
}

/* ---- as new ---- */

static void setup(void)
{
    struct hba_queue *queue = &queues[HBA_FIXED_QUEUES];

    memset(&hba, 0, sizeof(hba));
    memset(queues, 0, sizeof(queues));
    memset(&ring, 0, sizeof(ring));
    memset(requests, 0, sizeof(requests));
    memset(&root, 0, sizeof(root));
    memset(answered, 0, sizeof(answered));
    for (unsigned i = 0; i < LOOPS; i++) {
        co_sched_init(&loops[i].sched, ready);
        loops[i].ready = NULL;
        loops[i].ready_end = &loops[i].ready;
        list_init(&loops[i].bhs);
    }
    for (unsigned i = 0; i <= HBA_FIXED_QUEUES; i++) {
        queues[i].hba = &hba;
        queues[i].home = &loops[i < HBA_FIXED_QUEUES ? MAIN : ONE];
        list_init(&queues[i].rings);
    }
    hba.queues = queue; /* the round is over the one that matters */
    hba.queue_count = 1;
    ring.queue = queue;
    ring.slot_count = 4 * REQUESTS;
    ring.attached = true;
    attached_to = &loops[ONE];
    list_init(&ring.parked);
    list_add_tail(&queue->rings, &ring.link);
    for (unsigned i = 0; i < REQUESTS; i++) {
        requests[i].slot.ring = &ring;
        requests[i].tag = i;
        list_init(&requests[i].park_link);
    }
    root.tokens.kick = kick;
    toucher = -1;
    rounds = parts_left = 0;
    is_over = waits_for_idle = tokenless = false;
}

static void spawn(unsigned loop, co_fn *fn, void *opaque)
{
    parts_left++;
    co_wake(co_new(fn, opaque, &loops[loop].sched, "part"));
}

/* ---- a queue moves ---- */

MAIN_LOOP CO_FN
static void mover(void *opaque)
{
    hba_queue_co_move(hba.queues, &loops[TWO]);
    explore_check(loop_self() == &loops[MAIN]);
    part_ends();
}

HOME_LOOP
static void round_step(struct hba_queue *queue, void *opaque)
{
    touch(queue);
    rounds++;
}

MAIN_LOOP CO_FN
static void rounder(void *opaque)
{
    hba_co_round(&hba, round_step, NULL);
    explore_check(rounds == 1);
    part_ends();
}

CO_FN
static void completer(void *opaque)
{
    explore_check(hba_queue_co_enter(hba.queues) == loop_self());
    touch(hba.queues);
    part_ends();
}

/* Goes where home was, and believes it. */
CO_FN
static void completer_broken(void *opaque)
{
    loop_co_move(at_load(&hba.queues->home));
    touch(hba.queues);
    part_ends();
}

HOME_LOOP
static void post_broken_bh(void *opaque)
{
    round_step(hba.queues, NULL);
    part_ends();
}

CO_FN
static void poster_broken(void *opaque)
{
    bh_once(at_load(&hba.queues->home), post_broken_bh, NULL, "post");
}

#define MOVE(name, from, loop, other)                                                              \
    static void name(void)                                                                         \
    {                                                                                              \
        setup();                                                                                   \
        spawn(from, mover, NULL);                                                                  \
        spawn(loop, other, NULL);                                                                  \
    }
MOVE(move_round, ONE, MAIN, rounder) /* it has got there already */
MOVE(move_complete, MAIN, ONE, completer)
MOVE(move_complete_far, MAIN, TWO, completer)
MOVE(move_complete_broken, MAIN, TWO, completer_broken)
MOVE(move_post_broken, ONE, MAIN, poster_broken)

static void move_check(void)
{
    explore_check(queues[HBA_FIXED_QUEUES].home == &loops[TWO]);
    explore_check(ring.attached && attached_to == &loops[TWO]);
}

/* ---- a LUN goes ---- */

static void (*table_unpublish)(struct scsi_table *, struct scsi_slot *) = scsi_table_unpublish;

static void lun_setup(bool gated)
{
    struct scsi_table *(*table_new)(void) = scsi_table_new;
    int (*publish)(struct scsi_table *, struct scsi_slot *) = scsi_table_publish;

    setup();
    rcu_thread_register();
    hba.table = table_new();
    memset(&lun, 0, sizeof(lun));
    lun.slot = (struct scsi_slot){0, 0, &port};
    lun.hba = &hba;
    lun.root = &root;
    root.tokens.gate_closed = gated;
    explore_check(publish(hba.table, &lun.slot) == 0);
}

/* The last one comes; those before it are there already. */
CO_FN
static void arrival(void *opaque)
{
    bh_once(&loops[ONE], request_serve, opaque, "request");
}

static void serve_on_one(unsigned count)
{
    sent = count;
    for (unsigned i = 0; i + 1 < count; i++) {
        parts_left++;
        bh_once(&loops[ONE], request_serve, &requests[i], "request");
    }
    spawn(ONE, arrival, &requests[count - 1]);
}

static void lun_free(void)
{
    root.freed = true;
    memset(&lun, 0xa5, sizeof(lun));
    part_ends();
}

MAIN_LOOP CO_FN
static void unplug(void *opaque)
{
    table_unpublish(hba.table, &lun.slot);
    hba_lun_co_purge(&lun);
    co_drain();
    lun_free();
}

/* RACES R4: drained and taken apart before the homes have left what they were doing. */
MAIN_LOOP CO_FN
static void unplug_before_round(void *opaque)
{
    table_unpublish(hba.table, &lun.slot);
    co_drain();
    lun_free();
    hba_co_round(&hba, round_step, NULL);
}

MAIN_LOOP CO_FN
static void unplug_purges_published(void *opaque)
{
    hba_lun_co_purge(&lun);
    table_unpublish(hba.table, &lun.slot);
    co_drain();
    lun_free();
}

/* ---- a section ends ---- */

MAIN_LOOP CO_FN
static void section_end(void *opaque)
{
    blk_tokens_raise_under(&root.tokens, MAIN);
    blk_tokens_gate_open(&root.tokens);
    hba_lun_restart(&lun);
    blk_tokens_drop(&root.tokens, MAIN);
    part_ends();
}

/* The homes are told, and perhaps done, before the gate opens. */
MAIN_LOOP CO_FN
static void section_end_late_gate(void *opaque)
{
    blk_tokens_raise_under(&root.tokens, MAIN);
    hba_lun_restart(&lun);
    co_yield_turn();
    blk_tokens_gate_open(&root.tokens);
    blk_tokens_drop(&root.tokens, MAIN);
    part_ends();
}

#define LUN(name, gated, count, part)                                                              \
    static void name(void)                                                                         \
    {                                                                                              \
        lun_setup(gated);                                                                          \
        serve_on_one(count);                                                                       \
        spawn(MAIN, part, NULL);                                                                   \
    }
LUN(unplug_open, false, 2, unplug)
LUN(unplug_gated, true, 2, unplug)
LUN(unplug_tokenless_lun, false, 1, unplug)
LUN(unplug_r4_lun, false, 1, unplug_before_round)
LUN(unplug_published, true, 1, unplug_purges_published)

static void unplug_tokenless(void)
{
    unplug_tokenless_lun();
    tokenless = true;
}
static void unplug_r4(void)
{
    unplug_r4_lun();
    tokenless = true;
}

/* hba_lun_restart() goes by the queues' indices. */
#define SECTION(name, part)                                                                        \
    LUN(name##_lun, true, 1, part)                                                                 \
    static void name(void)                                                                         \
    {                                                                                              \
        name##_lun();                                                                              \
        hba.queues = queues;                                                                       \
        hba.queue_count = HBA_FIXED_QUEUES + 1;                                                    \
    }
SECTION(section, section_end)
SECTION(section_late_gate, section_end_late_gate)

static void all_answered(void)
{
    explore_check(list_is_empty(&ring.parked) && ring.parked_count == 0);
    for (unsigned i = 0; i < sent; i++) {
        explore_check(answered[i] == 1);
    }
    explore_check(blk_tokens_are_idle(&root.tokens));
}

int main(int argc, char **argv)
{
    static const struct explore_scenario scenarios[] = {
        {"move-round", 3, loop_actor, move_round, move_check, .bound = 2, .schedules = 12000},
        {"move-complete", 3, loop_actor, move_complete, move_check,
         .bound = 2, .schedules = 12000},
        {"move-complete-far", 3, loop_actor, move_complete_far, move_check,
         .bound = 2, .schedules = 12000},
        {"move-complete-once", 3, loop_actor, move_complete_broken,
         .must_fail = "queue->home == loop_self()"},
        {"move-post-once", 3, loop_actor, move_post_broken,
         .must_fail = "queue->home == loop_self()"},
        {"unplug", 2, loop_actor, unplug_open, all_answered, .bound = 2, .schedules = 12000},
        {"unplug-gated", 2, loop_actor, unplug_gated, all_answered,
         .bound = 2, .schedules = 12000},
        {"unplug-tokenless", 2, loop_actor, unplug_tokenless, all_answered,
         .bound = 2, .schedules = 12000},
        {"unplug-drain-before-round", 2, loop_actor, unplug_r4, .must_fail = "freed"},
        {"unplug-purge-published", 2, loop_actor, unplug_published, .must_fail = "stuck"},
        {"section", 2, loop_actor, section, all_answered, .bound = 2, .schedules = 12000},
        {"section-late-gate", 2, loop_actor, section_late_gate, .must_fail = "stuck"},
    };

    return explore_main(argc, argv, scenarios, countof(scenarios));
}
