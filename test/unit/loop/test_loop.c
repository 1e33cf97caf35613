/* test_loop.c -- sleeping and waking, stopping, freeing, deferred calls, coroutines of several
 * loops. */
#include "harness.h"
#include <sched.h>
#include "co/lock.h"
#include "loop/loop_int.h"
#include "os/file.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"

/* ---- a loop on a thread of its own ---- */

struct side {
    struct os_thread *thread;
    struct loop *loop; /* atomic */
};

BLOCKING
static void side_main(void *opaque)
{
    struct side *side = opaque;
    struct loop *loop = test_loop_new("side");

    at_store(&side->loop, loop);
    loop_run(loop);
    test_loop_free(loop);
    co_pool_release();
}

static void side_start(struct side *side)
{
    side->loop = NULL;
    side->thread = os_thread_start("side", side_main, side);
    while (at_load(&side->loop) == NULL) {
        sched_yield();
    }
}

static void side_stop(struct side *side)
{
    loop_stop(side->loop);
    os_thread_join(side->thread);
}

static uint64_t system_calls(const struct loop *loop)
{
    struct loop_stats stats;

    loop_get_stats(loop, &stats);
    return stats.system_calls;
}

static void expect_asleep(const struct loop *loop)
{
    uint64_t before;

    usleep(20000); /* let it go to sleep */
    before = system_calls(loop);
    usleep(200000);
    assert_int_equal(system_calls(loop), before);
}

static uint32_t woken; /* atomic */

static void expect_woken(void)
{
    for (int i = 0; i < 5000 && at_load(&woken) == 0; i++) {
        usleep(1000);
    }
    assert_int_equal(at_xchg(&woken, 0), 1);
}

HOME_LOOP
static void notes_it(void *opaque)
{
    at_store(&woken, 1);
}

CO_FN
static void notes_it_in_a_coroutine(void *opaque)
{
    at_store(&woken, 1);
}

static struct co_wait side_wait;

CO_FN
static void waits(void *opaque)
{
    co_wait_init(&side_wait);
    at_store(&woken, 1);
    co_wait_block(&side_wait);
    at_store(&woken, 1);
}

static struct loop_watch side_watch;
static struct loop_timer side_timer;

HOME_LOOP
static void on_side_fd(void *opaque, unsigned events)
{
    loop_watch_remove(&side_watch);
    at_store(&woken, 1);
}
static const struct loop_watch_ops side_watch_ops = {.ready = on_side_fd};

HOME_LOOP
static void adds_a_watch(void *opaque)
{
    expect(loop_watch_add(&side_watch, *(int *)opaque, LOOP_IN, &side_watch_ops, NULL) == 0);
    at_store(&woken, 1);
}

HOME_LOOP
static void arms_a_timer(void *opaque)
{
    loop_timer_init(&side_timer, LOOP_CLOCK_MONOTONIC, notes_it, NULL);
    loop_timer_arm(&side_timer, os_now_monotonic_ns() + 400000000);
}

BLOCKING
static int64_t waits_in_the_pool(void *opaque)
{
    usleep(400000);
    return 0;
}

CO_FN
static void calls_the_pool(void *opaque)
{
    pool_co_call(NULL, waits_in_the_pool, NULL);
    at_store(&woken, 1);
}

static void an_idle_loop_sleeps_and_every_event_wakes_it(void **state)
{
    struct side side;
    int fd = os_eventfd();
    struct bh *bh;

    side_start(&side);
    expect_asleep(side.loop);

    bh = bh_new(side.loop, notes_it, NULL, "persistent");
    bh_schedule(bh);
    expect_woken();
    expect_asleep(side.loop);

    bh_schedule_idle(bh);
    expect_woken();
    expect_asleep(side.loop);
    bh_delete(bh);
    expect_asleep(side.loop);

    bh_once(side.loop, notes_it, NULL, "one-shot");
    expect_woken();
    expect_asleep(side.loop);

    loop_co_spawn(side.loop, notes_it_in_a_coroutine, NULL, "coroutine");
    expect_woken();
    expect_asleep(side.loop);

    loop_co_spawn(side.loop, waits, NULL, "waiter");
    expect_woken();
    expect_asleep(side.loop);
    assert_true(co_wait_complete(&side_wait, 0));
    expect_woken();
    expect_asleep(side.loop);

    bh_once(side.loop, adds_a_watch, &fd, "add a watch");
    expect_woken();
    expect_asleep(side.loop);
    os_eventfd_signal(fd);
    expect_woken();
    expect_asleep(side.loop);

    bh_once(side.loop, arms_a_timer, NULL, "arm a timer");
    expect_asleep(side.loop);
    expect_woken();
    expect_asleep(side.loop);

    loop_co_spawn(side.loop, calls_the_pool, NULL, "pool");
    expect_asleep(side.loop);
    expect_woken();
    expect_asleep(side.loop);

    side_stop(&side); /* and so does a stop */
    os_close_now(fd);
}

/* Many schedules while the loop is busy: one write of its eventfd at most. */
HOME_LOOP
static void holds_the_loop(void *opaque)
{
    at_store(&woken, 1);
    while (at_load(&woken) != 2) {
        sched_yield();
    }
}

static void a_busy_loop_is_not_written_to(void **state)
{
    struct loop *mine = *state;
    struct side side;
    uint64_t before;

    side_start(&side);
    bh_once(side.loop, holds_the_loop, NULL, "hold");
    while (at_load(&woken) != 1) {
        sched_yield();
    }
    before = system_calls(mine);
    for (int i = 0; i < 100; i++) {
        bh_once(side.loop, notes_it, NULL, "one of a batch");
    }
    assert_int_equal(system_calls(mine), before);
    at_store(&woken, 2);
    side_stop(&side);
    at_store(&woken, 0);
}

/* ---- stop and free ---- */

static int ran;

HOME_LOOP
static void runs(void *opaque)
{
    ran++;
}

CO_FN
static void runs_in_a_coroutine(void *opaque)
{
    ran++;
}

static void what_was_scheduled_before_a_stop_still_runs(void **state)
{
    struct loop *loop = *state;

    ran = 0;
    for (int i = 0; i < 300; i++) {
        bh_once(loop, runs, NULL, "before");
    }
    loop_co_spawn(loop, runs_in_a_coroutine, NULL, "before");
    loop_stop(loop);
    loop_run(loop);
    assert_int_equal(ran, 301);
    loop_stop(loop); /* and it can be run again */
    loop_run(loop);
}

CO_FN
static void yields(void *opaque)
{
    *(struct co **)opaque = co_self();
    co_yield();
}

static void freeing_a_loop_with_work_left_names_it(void **state)
{
    struct loop *loop = *state;
    struct loop_timer timer;
    struct err *error = NULL;
    struct co *co = NULL;
    struct bh *bh = bh_new(loop, runs, NULL, "left over");

    loop_assert_home(loop);
    assert_int_equal(loop_free(loop, &error), -EBUSY);
    assert_non_null(strstr(error->text, "'main'"));
    assert_non_null(strstr(error->text, "1 bottom halves"));
    err_free(take(&error));
    bh_delete(bh);
    loop_timer_init(&timer, LOOP_CLOCK_MONOTONIC, runs, NULL);
    loop_timer_arm(&timer, UINT64_MAX);
    assert_int_equal(loop_free(loop, &error), -EBUSY);
    assert_non_null(strstr(error->text, "1 timers"));
    err_free(take(&error));
    loop_timer_cancel(&timer);
    loop_co_spawn(loop, yields, &co, "sleepy");
    assert_int_equal(loop_free(loop, &error), -EBUSY);
    assert_non_null(strstr(error->text, "sleepy"));
    err_free(take(&error));
    co_wake(co);
}

BLOCKING
static void schedules_a_little_later(void *opaque)
{
    usleep(50000);
    bh_once(opaque, notes_it, NULL, "note");
}

/* A scheduler that found the loop about to wait, and wrote only when it had ended for another
 * reason. */
static void a_late_write_does_not_silence_the_next_loop(void **state)
{
    struct loop *first = test_loop_new("first"), *next;
    struct os_thread *thread;

    at_store(&first->notifier.notify, 1);
    assert_true(notifier_kick(&first->notifier));
    at_store(&first->notifier.notify, 0);
    test_loop_free(first);
    next = test_loop_new("next");
    assert_ptr_equal(next, first); /* reused */
    thread = os_thread_start("late", schedules_a_little_later, next);
    while (at_load(&woken) == 0) {
        loop_poll(next, true);
    }
    at_store(&woken, 0);
    os_thread_join(thread);
    test_loop_free(next);
}

static void a_missing_engine_is_an_error_only_by_name(void **state)
{
    struct loop *loop = *state;
    const char *text = loop_engine_text(loop);

    assert_non_null(strstr(text, test_engine == LOOP_ENGINE_EPOLL ? "epoll" : "io_uring"));
    assert_ptr_equal(loop_self(), loop);
    assert_ptr_equal(loop_main(), loop);
    assert_true(loop_index(loop) < LOOPS_MAX);
}

/* ---- deferred calls ---- */

static struct loop_defer defer;
static int deferred_runs, deferred_at;

HOME_LOOP
static void deferred(void *opaque)
{
    deferred_runs++;
    deferred_at = ran;
}

HOME_LOOP
static void defers(void *opaque)
{
    ran++;
    loop_defer(&defer);
    loop_defer(&defer);
}

static void a_deferred_call_runs_once_a_batch_and_last(void **state)
{
    struct loop *loop = *state;

    loop_assert_home(loop);
    ran = deferred_runs = 0;
    loop_defer_init(&defer, deferred, NULL);
    for (int i = 0; i < 10; i++) {
        bh_once(loop, defers, NULL, "defers");
    }
    loop_poll(loop, true);
    assert_int_equal(deferred_runs, 1);
    assert_int_equal(deferred_at, 10);
    loop_defer(&defer);
    loop_defer_cancel(&defer);
    loop_poll(loop, false);
    assert_int_equal(deferred_runs, 1);
    loop_defer(&defer); /* from outside a dispatch: before the loop sleeps */
    loop_poll(loop, true);
    assert_int_equal(deferred_runs, 2);
}

/* ---- coroutines of several loops ---- */

enum { SIDES = 3, LOCKERS = 4, TURNS = 300 };

static struct co_mutex mutex;
static unsigned inside, total; /* guarded by mutex */
static uint32_t ended;         /* atomic */
static unsigned per_locker_max_wait;

/* Fair: while one waits, no other gets the mutex more than once. */
CO_FN
static void locks_in_turn(void *opaque)
{
    unsigned before;

    for (int i = 0; i < TURNS; i++) {
        before = at_load_relaxed(&total);
        co_mutex_lock(&mutex);
        expect(inside++ == 0);
        if (total - before > per_locker_max_wait) {
            per_locker_max_wait = total - before;
        }
        at_store_relaxed(&total, total + 1);
        if (i % 3 == 0) {
            co_yield_turn();
        }
        expect(--inside == 0);
        co_mutex_unlock(&mutex);
        if (i % 7 == 0) {
            co_yield_turn();
        }
    }
    at_add(&ended, 1);
}

static void a_mutex_between_loops_is_fair(void **state)
{
    struct side sides[SIDES];

    memset(&mutex, 0, sizeof(mutex));
    inside = total = ended = 0;
    per_locker_max_wait = 0;
    for (int s = 0; s < SIDES; s++) {
        side_start(&sides[s]);
        for (int i = 0; i < LOCKERS; i++) {
            loop_co_spawn(sides[s].loop, locks_in_turn, NULL, "locker");
        }
    }
    while (at_load(&ended) < SIDES * LOCKERS) {
        usleep(1000);
    }
    for (int s = 0; s < SIDES; s++) {
        side_stop(&sides[s]);
    }
    assert_int_equal(total, SIDES * LOCKERS * TURNS);
    /* `before` is read a moment before the place in the line is taken, hence the slack */
    assert_true(per_locker_max_wait < 20 * SIDES * LOCKERS);
}

CO_FN
static void travels(void *opaque)
{
    struct side *sides = opaque;

    for (int i = 0; i < TURNS; i++) {
        struct loop *to = sides[i % SIDES].loop;

        loop_co_move(to);
        expect(loop_self() == to);
        expect(co_home(co_self()) == loop_co_sched(to));
    }
    at_add(&ended, 1);
}

static void coroutines_travel_between_loops(void **state)
{
    struct side sides[SIDES];

    ended = 0;
    for (int s = 0; s < SIDES; s++) {
        side_start(&sides[s]);
    }
    for (int i = 0; i < LOCKERS; i++) {
        loop_co_spawn(sides[i % SIDES].loop, travels, sides, "traveller");
    }
    while (at_load(&ended) < LOCKERS) {
        usleep(1000);
    }
    for (int s = 0; s < SIDES; s++) {
        side_stop(&sides[s]);
    }
}

/* ---- waits finished by foreign threads ---- */

struct foreign {
    struct co_wait *wait; /* atomic; NULL: none offered */
    uint32_t stop;        /* atomic */
    struct os_thread *thread;
};

BLOCKING
static void finishes(void *opaque)
{
    struct foreign *foreign = opaque;

    while (at_load(&foreign->stop) == 0) {
        struct co_wait *wait = at_xchg(&foreign->wait, NULL);

        if (wait != NULL) {
            co_wait_complete(wait, 42);
        } else {
            sched_yield();
        }
    }
}

CO_FN
static void offers_waits(void *opaque)
{
    struct foreign *foreign = opaque;

    for (int i = 0; i < 20000; i++) {
        struct co_wait wait;

        co_wait_init(&wait);
        at_store(&foreign->wait, &wait); /* may be finished before, while and after it blocks */
        if (i % 3 == 0) {
            for (volatile int spin = 0; spin < i % 50; spin = spin + 1) {
            }
        }
        expect(co_wait_block(&wait) == 42);
    }
    loop_stop(loop_self());
}

static void waits_race_with_foreign_threads(void **state)
{
    struct foreign foreign = {.wait = NULL};

    foreign.thread = os_thread_start("foreign", finishes, &foreign);
    loop_co_spawn(*state, offers_waits, &foreign, "waiter");
    loop_run(*state);
    at_store(&foreign.stop, 1);
    os_thread_join(foreign.thread);
}

/* Two parties end one wait: exactly one wins, and the other never touches it. */
struct contest {
    struct co_wait wait;
    uint32_t won; /* atomic */
};
static struct contest *contest; /* atomic; lives until both threads have answered */
static uint32_t answers;        /* atomic */
static uint32_t contest_stop;   /* atomic */

BLOCKING
static void contends(void *opaque)
{
    struct contest *last = NULL;

    while (at_load(&contest_stop) == 0) {
        struct contest *current = at_load(&contest);

        if (current == NULL || current == last) {
            sched_yield();
            continue;
        }
        last = current;
        if (co_wait_complete(&current->wait, *(int *)opaque)) {
            at_add(&current->won, 1);
        }
        at_add(&answers, 1);
    }
}

CO_FN
static void holds_contests(void *opaque)
{
    static struct contest contests[2];

    for (int i = 0; i < 2000; i++) {
        struct contest *current = &contests[i % 2];
        int64_t winner;

        current->won = 0;
        answers = 0;
        co_wait_init(&current->wait);
        at_store(&contest, current);
        winner = co_wait_block(&current->wait);
        expect(winner == 1 || winner == 2);
        while (at_load(&answers) < 2) {
            sched_yield();
        }
        expect(at_load(&current->won) == 1);
    }
    loop_stop(loop_self());
}

static void exactly_one_of_two_ends_a_wait(void **state)
{
    struct os_thread *threads[2];
    int ids[2] = {1, 2};

    contest = NULL;
    contest_stop = 0;
    for (int i = 0; i < 2; i++) {
        threads[i] = os_thread_start("contender", contends, &ids[i]);
    }
    loop_co_spawn(*state, holds_contests, NULL, "contests");
    loop_run(*state);
    at_store(&contest_stop, 1);
    for (int i = 0; i < 2; i++) {
        os_thread_join(threads[i]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(an_idle_loop_sleeps_and_every_event_wakes_it),
        loop_test(a_busy_loop_is_not_written_to),
        loop_test(what_was_scheduled_before_a_stop_still_runs),
        loop_test(freeing_a_loop_with_work_left_names_it),
        cmocka_unit_test(a_late_write_does_not_silence_the_next_loop),
        loop_test(a_missing_engine_is_an_error_only_by_name),
        loop_test(a_deferred_call_runs_once_a_batch_and_last),
        loop_test(a_mutex_between_loops_is_fair),
        loop_test(coroutines_travel_between_loops),
        loop_test(waits_race_with_foreign_threads),
        loop_test(exactly_one_of_two_ends_a_wait),
    };
    int failures;

    test_begin(argc, argv);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
