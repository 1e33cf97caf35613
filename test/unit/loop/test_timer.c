/* test_timer.c -- timers: order, re-arming, cancelling from callbacks, many of them. */
#include "harness.h"
#include "os/time.h"

enum { MANY = 2000 };

static int fired[MANY + 8];
static int fired_count;

struct numbered {
    struct loop_timer timer;
    int number;
};

HOME_LOOP
static void fires(void *opaque)
{
    struct numbered *timer = opaque;

    fired[fired_count++] = timer->number;
}

static int setup(void **state)
{
    fired_count = 0;
    return setup_loop(state);
}

static void init(struct numbered *timer, int number, void (*fn)(void *opaque))
{
    loop_assert_home(loop_self());
    timer->number = number;
    loop_timer_init(&timer->timer, LOOP_CLOCK_MONOTONIC, fn, timer);
}

static void earlier_deadline_first_then_order_of_arming(void **state)
{
    struct numbered timers[6];
    const uint64_t offsets[] = {3, 1, 2, 1, 3, 0};
    const int expected[] = {5, 1, 3, 2, 0, 4};
    uint64_t now_ns = os_now_monotonic_ns();

    loop_assert_home(*state);
    for (int i = 0; i < 6; i++) {
        init(&timers[i], i, fires);
        loop_timer_arm(&timers[i].timer, now_ns + offsets[i] * 1000000);
    }
    while (fired_count < 6) {
        loop_poll(*state, true);
    }
    assert_true(os_now_monotonic_ns() >= now_ns + 3000000);
    assert_memory_equal(fired, expected, sizeof(expected));
}

static void a_timer_is_not_early_and_not_much_late(void **state)
{
    struct numbered timer;
    uint64_t began_ns = os_now_monotonic_ns(), took_ns;

    loop_assert_home(*state);
    init(&timer, 0, fires);
    loop_timer_arm(&timer.timer, began_ns + 20000000);
    while (fired_count == 0) {
        loop_poll(*state, true);
    }
    took_ns = os_now_monotonic_ns() - began_ns;
    assert_true(took_ns >= 20000000);
    assert_true(took_ns < 2000000000);
}

static void random_arms_and_cancels_keep_the_order(void **state)
{
    static struct numbered timers[MANY];
    unsigned seed = 4711;
    uint64_t now_ns = os_now_monotonic_ns(), last_ns = 0;
    int armed = 0;

    loop_assert_home(*state);
    for (int i = 0; i < MANY; i++) {
        init(&timers[i], i, fires);
        loop_timer_arm(&timers[i].timer, now_ns + (uint64_t)(rand_r(&seed) % 1000) * 1000);
    }
    for (int i = 0; i < MANY; i++) {
        int pick = rand_r(&seed) % MANY;

        if (i % 3 == 0) {
            loop_timer_cancel(&timers[pick].timer);
        } else {
            loop_timer_arm(&timers[pick].timer, now_ns + (uint64_t)(rand_r(&seed) % 1000) * 1000);
        }
    }
    for (int i = 0; i < MANY; i++) {
        armed += timers[i].timer.heap_index != SIZE_MAX;
    }
    while (fired_count < armed) {
        loop_poll(*state, true);
    }
    for (int i = 0; i < armed; i++) {
        assert_true(timers[fired[i]].timer.deadline_ns >= last_ns);
        last_ns = timers[fired[i]].timer.deadline_ns;
    }
    assert_false(loop_poll(*state, false));
}

static struct numbered *victim;

HOME_LOOP
static void cancels_another_and_frees_itself(void *opaque)
{
    struct numbered *timer = opaque;

    fires(opaque);
    loop_timer_cancel(&victim->timer);
    free(victim);
    free(timer);
}

HOME_LOOP
static void arms_itself_in_the_past(void *opaque)
{
    struct numbered *timer = opaque;

    fires(opaque);
    if (fired_count < 200) {
        loop_timer_arm(&timer->timer, 1);
    }
}

static void callbacks_may_change_any_timer(void **state)
{
    struct numbered *timer = malloc(sizeof(*timer)), again;
    uint64_t now_ns = os_now_monotonic_ns();
    int turns = 0;

    loop_assert_home(*state);
    victim = malloc(sizeof(*victim));
    init(timer, 1, cancels_another_and_frees_itself);
    init(victim, 2, fires);
    loop_timer_arm(&timer->timer, now_ns);
    loop_timer_arm(&victim->timer, now_ns);
    loop_poll(*state, true);
    assert_int_equal(fired_count, 1);
    init(&again, 3, arms_itself_in_the_past);
    loop_timer_arm(&again.timer, 1);
    while (fired_count < 200) {
        loop_poll(*state, true);
        turns++;
    }
    assert_true(turns >= 3); /* others get a turn in between: LOOP_BUDGET */
}

static void the_realtime_clock_works_too(void **state)
{
    struct numbered timer;

    loop_assert_home(*state);
    timer.number = 7;
    loop_timer_init(&timer.timer, LOOP_CLOCK_REALTIME, fires, &timer);
    loop_timer_arm(&timer.timer, loop_now_ns(LOOP_CLOCK_REALTIME) + 5000000);
    while (fired_count == 0) {
        loop_poll(*state, true);
    }
    assert_true(loop_now_ns(LOOP_CLOCK_REALTIME) >= timer.timer.deadline_ns);
}

static uint64_t slept_ns;

CO_FN
static void sleeps(void *opaque)
{
    uint64_t began_ns = os_now_monotonic_ns();

    loop_co_sleep(3000000);
    slept_ns = os_now_monotonic_ns() - began_ns;
}

static void a_coroutine_sleeps(void **state)
{
    run_co(sleeps, NULL);
    assert_true(slept_ns >= 3000000);
}

#define timer_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown_loop)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        timer_test(earlier_deadline_first_then_order_of_arming),
        timer_test(a_timer_is_not_early_and_not_much_late),
        timer_test(random_arms_and_cancels_keep_the_order),
        timer_test(callbacks_may_change_any_timer),
        timer_test(the_realtime_clock_works_too),
        timer_test(a_coroutine_sleeps),
    };

    test_begin(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
