/* test_bh.c -- bottom halves: order, nesting, cancel, delete, idle, many threads. */
#include "harness.h"
#include <sched.h>
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"

struct trace {
    int seen[256];
    int count;
};
struct step {
    struct trace *trace;
    int number;
};

HOME_LOOP
static void note(void *opaque)
{
    struct step *step = opaque;

    step->trace->seen[step->trace->count++] = step->number;
}

static void order_of_scheduling_is_order_of_running(void **state)
{
    struct loop *loop = *state;
    struct trace trace = {.count = 0};
    struct step steps[10], last = {&trace, 99};
    struct bh *bhs[10];

    for (int i = 0; i < 10; i++) {
        steps[i] = (struct step){&trace, i};
        bhs[i] = bh_new(loop, note, &steps[i], "step");
    }
    for (int i = 0; i < 10; i++) {
        bh_schedule(bhs[(i * 3) % 10]);
        bh_schedule(bhs[0]); /* keeps its place */
    }
    bh_once(loop, note, &last, "barrier");
    assert_true(loop_poll(loop, true));
    assert_int_equal(trace.count, 11);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(trace.seen[i], (i * 3) % 10);
        bh_delete(bhs[i]);
    }
    assert_int_equal(trace.seen[10], 99);
}

/* ---- nested polls ---- */

static struct trace nested_trace;
static struct loop *nested_loop;
static struct step nested_late = {&nested_trace, 50};

HOME_LOOP
static void polls(void *opaque)
{
    nested_trace.seen[nested_trace.count++] = 1;
    bh_once(nested_loop, note, &nested_late, "late");
    loop_poll(nested_loop, false);
    nested_trace.seen[nested_trace.count++] = 2;
}

static void a_nested_poll_goes_on_where_the_outer_one_is(void **state)
{
    struct step before = {&nested_trace, 10}, after = {&nested_trace, 20};
    const int expected[] = {10, 1, 20, 50, 2};

    nested_loop = *state;
    nested_trace.count = 0;
    bh_once(nested_loop, note, &before, "before");
    bh_once(nested_loop, polls, NULL, "polls");
    bh_once(nested_loop, note, &after, "after");
    loop_poll(nested_loop, true);
    /* the inner level takes what was there and what is new, in order; nothing is left to the
     * outer */
    assert_int_equal(nested_trace.count, countof(expected));
    assert_memory_equal(nested_trace.seen, expected, sizeof(expected));
}

static struct bh *self_scheduling;
static int self_runs;

HOME_LOOP
static void schedules_itself(void *opaque)
{
    self_runs++;
    bh_schedule(self_scheduling);
}

static void what_is_scheduled_meanwhile_waits_for_the_next_turn(void **state)
{
    struct loop *loop = *state;

    self_runs = 0;
    self_scheduling = bh_new(loop, schedules_itself, NULL, "again");
    bh_schedule(self_scheduling);
    for (int turn = 1; turn <= 3; turn++) {
        assert_true(loop_poll(loop, true));
        assert_int_equal(self_runs, turn);
    }
    bh_cancel(self_scheduling);
    assert_false(loop_poll(loop, false));
    assert_int_equal(self_runs, 3);
    bh_delete(self_scheduling);
}

/* ---- cancel and delete ---- */

static struct bh *partners[2];
static int partner_runs[2];

HOME_LOOP
static void cancels_both(void *opaque)
{
    partner_runs[*(int *)opaque]++;
    bh_cancel(partners[0]);
    bh_cancel(partners[1]);
}

HOME_LOOP
static void deletes_both(void *opaque)
{
    partner_runs[*(int *)opaque]++;
    bh_delete(take(&partners[0]));
    bh_delete(take(&partners[1]));
}

static void cancel_and_delete_from_inside(void **state)
{
    struct loop *loop = *state;
    int numbers[2] = {0, 1};

    memset(partner_runs, 0, sizeof(partner_runs));
    for (int i = 0; i < 2; i++) {
        partners[i] = bh_new(loop, cancels_both, &numbers[i], "canceller");
        bh_schedule(partners[i]);
    }
    loop_poll(loop, true);
    assert_int_equal(partner_runs[0], 1);
    assert_int_equal(partner_runs[1], 0);
    bh_schedule(partners[1]); /* a cancelled one can be scheduled again */
    loop_poll(loop, true);
    assert_int_equal(partner_runs[1], 1);
    for (int i = 0; i < 2; i++) {
        bh_delete(partners[i]);
        partners[i] = bh_new(loop, deletes_both, &numbers[i], "deleter");
        bh_schedule(partners[i]);
    }
    loop_poll(loop, true);
    assert_int_equal(partner_runs[0], 2);
    assert_int_equal(partner_runs[1], 1);
    bh_delete(NULL);
}

/* ---- idle ---- */

static void an_idle_bh_is_no_progress_but_runs(void **state)
{
    struct loop *loop = *state;
    struct trace trace = {.count = 0};
    struct step step = {&trace, 1};
    struct bh *bh = bh_new(loop, note, &step, "idle");
    uint64_t began_ns = os_now_monotonic_ns();

    bh_schedule_idle(bh);
    assert_false(loop_poll(loop, false));
    while (trace.count == 0) {
        assert_false(loop_poll(loop, true));
    }
    assert_true(os_now_monotonic_ns() - began_ns < 1000000000);
    bh_schedule_idle(bh);
    assert_false(loop_poll(loop, false));
    bh_schedule(bh); /* prompt after all */
    assert_true(loop_poll(loop, true));
    assert_int_equal(trace.count, 2);
    bh_schedule_idle(bh);
    loop_poll(loop, false);
    bh_delete(bh); /* while it lies on the idle list */
    loop_poll(loop, false);
    assert_int_equal(trace.count, 2);
}

static void an_idle_bh_does_not_keep_the_loop_awake(void **state)
{
    struct loop *loop = *state;
    struct trace trace = {.count = 0};
    struct step step = {&trace, 1};
    struct bh *bh = bh_new(loop, note, &step, "idle");
    int turns = 0;

    bh_schedule_idle(bh);
    while (trace.count == 0) {
        loop_poll(loop, true);
        turns++;
    }
    assert_true(turns <= 3);
    bh_delete(bh);
}

/* ---- other threads ---- */

enum { SENDERS = 4, ROUNDS = 3000, ORDERED = 20 };

struct sender {
    struct loop *loop;
    struct bh *bh;
    uint64_t sent, seen; /* atomic */
    uint64_t ran;
    struct os_thread *thread;
    int id, next;
};

/* What was written before the schedule is seen by the run it causes. */
HOME_LOOP
static void catches_up(void *opaque)
{
    struct sender *sender = opaque;

    at_store(&sender->ran, sender->ran + 1);
    at_store(&sender->seen, at_load(&sender->sent));
}

BLOCKING
static void sends(void *opaque)
{
    struct sender *sender = opaque;

    for (uint64_t i = 1; i <= ROUNDS; i++) {
        at_store(&sender->sent, i);
        bh_schedule(sender->bh);
        if (i % 16 == 0) {
            while (at_load(&sender->seen) < i) { /* a lost wake-up hangs here */
                sched_yield();
            }
        }
    }
}

static void four_threads_schedule_without_loss(void **state)
{
    struct loop *loop = *state;
    struct sender senders[SENDERS] = {{.sent = 0}};
    bool done = false;

    for (int i = 0; i < SENDERS; i++) {
        senders[i].bh = bh_new(loop, catches_up, &senders[i], "sender");
        senders[i].thread = os_thread_start("sender", sends, &senders[i]);
    }
    while (!done) {
        loop_poll(loop, true);
        done = true;
        for (int i = 0; i < SENDERS; i++) {
            done = done && at_load(&senders[i].seen) == ROUNDS;
        }
    }
    for (int i = 0; i < SENDERS; i++) {
        os_thread_join(senders[i].thread);
        assert_true(senders[i].ran <= ROUNDS);
        bh_delete(senders[i].bh);
    }
}

struct ordered {
    struct sender *sender;
    int number;
};

HOME_LOOP
static void comes_in_order(void *opaque)
{
    struct ordered *item = opaque;

    expect(item->number == item->sender->next);
    item->sender->next++;
}

static int senders_left;

HOME_LOOP
static void one_is_done(void *opaque)
{
    if (--senders_left == 0) {
        loop_stop(opaque);
    }
}

BLOCKING
static void sends_in_order(void *opaque)
{
    struct sender *sender = opaque;
    struct ordered items[ORDERED];

    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < ORDERED; i++) {
            items[i] = (struct ordered){sender, i};
            bh_once(sender->loop, comes_in_order, &items[i], "ordered");
        }
        at_store(&sender->sent, 0);
        bh_once(sender->loop, catches_up, sender, "barrier");
        while (at_load(&sender->ran) != (uint64_t)round + 1) {
            sched_yield();
        }
        expect(sender->next == ORDERED);
        sender->next = 0;
    }
    bh_once(sender->loop, one_is_done, sender->loop, "done");
}

static void one_threads_order_survives_the_others(void **state)
{
    struct sender senders[SENDERS] = {{.sent = 0}};

    senders_left = SENDERS;
    for (int i = 0; i < SENDERS; i++) {
        senders[i].loop = *state;
        senders[i].thread = os_thread_start("sender", sends_in_order, &senders[i]);
    }
    loop_run(*state);
    for (int i = 0; i < SENDERS; i++) {
        os_thread_join(senders[i].thread);
    }
}

/* ---- many threads change one BH ---- */

static struct bh *shared_bh;
static uint32_t shared_stop, shared_runs; /* atomic */

HOME_LOOP
static void counts(void *opaque)
{
    at_add(&shared_runs, 1);
}

BLOCKING
static void teases(void *opaque)
{
    unsigned seed = *(unsigned *)opaque;

    while (at_load(&shared_stop) == 0) {
        switch (rand_r(&seed) % 3) {
        case 0:
            bh_schedule(shared_bh);
            break;
        case 1:
            bh_schedule_idle(shared_bh);
            break;
        default:
            bh_cancel(shared_bh);
            break;
        }
    }
}

static void schedule_idle_and_cancel_race(void **state)
{
    struct loop *loop = *state;
    unsigned seeds[SENDERS] = {1, 2, 3, 4};
    struct os_thread *threads[SENDERS];
    uint64_t end_ns = os_now_monotonic_ns() + 500000000;

    shared_stop = shared_runs = 0;
    shared_bh = bh_new(loop, counts, NULL, "shared");
    for (int i = 0; i < SENDERS; i++) {
        threads[i] = os_thread_start("teaser", teases, &seeds[i]);
    }
    while (os_now_monotonic_ns() < end_ns) {
        loop_poll(loop, true);
    }
    at_store(&shared_stop, 1);
    for (int i = 0; i < SENDERS; i++) {
        os_thread_join(threads[i]);
    }
    bh_cancel(shared_bh);
    loop_poll(loop, false);
    shared_runs = 0;
    bh_schedule(shared_bh);
    loop_poll(loop, true);
    assert_int_equal(shared_runs, 1);
    bh_delete(shared_bh);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(order_of_scheduling_is_order_of_running),
        loop_test(a_nested_poll_goes_on_where_the_outer_one_is),
        loop_test(what_is_scheduled_meanwhile_waits_for_the_next_turn),
        loop_test(cancel_and_delete_from_inside),
        loop_test(an_idle_bh_is_no_progress_but_runs),
        loop_test(an_idle_bh_does_not_keep_the_loop_awake),
        loop_test(four_threads_schedule_without_loss),
        loop_test(one_threads_order_survives_the_others),
        loop_test(schedule_idle_and_cancel_race),
    };

    test_begin(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
