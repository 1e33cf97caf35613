/* test_co.c -- a coroutine's life, its states, its stack. */
#include "home.h"
#include "os/memory.h"
#include "sync/mutex.h"
#include "sync/rcu.h"

static struct home home, other_home;
static char trace[256];

static int setup(void **state)
{
    home_init(&home);
    home_init(&other_home);
    trace[0] = '\0';
    return 0;
}

static void say(const char *text)
{
    snprintf(trace + strlen(trace), sizeof(trace) - strlen(trace), "%s", text);
}

CO_FN
static void yields_twice(void *opaque)
{
    say(opaque);
    co_yield();
    say(opaque);
    co_yield();
    say(opaque);
}

static void wake_runs_later_and_in_order(void **state)
{
    struct co *a = home_start(&home, yields_twice, "a", "a");
    struct co *b = home_start(&home, yields_twice, "b", "b");

    assert_string_equal(trace, "ab");
    co_wake(b);
    co_wake(a);
    assert_string_equal(trace, "ab");
    home_run(&home);
    assert_string_equal(trace, "abba");
    co_wake(a);
    co_wake(b);
    home_run(&home);
    assert_string_equal(trace, "abbaab");
}

CO_FN
static void gives_a_turn(void *opaque)
{
    for (int i = 0; i < 3; i++) {
        say(opaque);
        co_yield_turn();
    }
}

static void a_turn_lets_the_others_run(void **state)
{
    co_wake(co_new(gives_a_turn, "a", &home.sched, "a"));
    co_wake(co_new(gives_a_turn, "b", &home.sched, "b"));
    home_run(&home);
    assert_string_equal(trace, "ababab");
}

CO_FN
static void moves_there_and_back(void *opaque)
{
    say("1");
    co_move(&home.sched); /* already there */
    say("2");
    co_move(&other_home.sched);
    say(co_home(co_self()) == &other_home.sched ? "there" : "?");
    co_move(&home.sched);
    say(co_home(co_self()) == &home.sched ? "back" : "?");
}

static void a_move_changes_the_home(void **state)
{
    unsigned count;

    home_is_here();
    home_start(&home, moves_there_and_back, NULL, "mover");
    assert_string_equal(trace, "12");
    home_run(&home);
    assert_string_equal(trace, "12");
    assert_null(co_sched_oldest(&home.sched, &count));
    assert_int_equal(count, 0);
    home_run(&other_home);
    assert_string_equal(trace, "12there");
    home_run(&other_home);
    home_run(&home);
    assert_string_equal(trace, "12thereback");
    assert_null(co_sched_oldest(&home.sched, &count));
}

CO_FN
static void keeps_registers(void *opaque)
{
    volatile int seed = *(int *)opaque;
    long a = seed, b = seed * 3, c = seed * 5, d = seed * 7, e = seed * 11, f = seed * 13;
    double x = seed * 0.5, y = seed * 0.25;

    for (int i = 0; i < 100; i++) {
        a += b ^ c;
        d += e ^ f;
        x += y;
        co_yield_turn();
    }
    assert_int_equal(a, seed + 100 * ((seed * 3L) ^ (seed * 5L)));
    assert_int_equal(d, seed * 7 + 100 * ((seed * 11L) ^ (seed * 13L)));
    assert_true(x == seed * 0.5 + 100 * (seed * 0.25));
    say("ok");
}

static void registers_and_locals_survive_switches(void **state)
{
    int seeds[5] = {1, 22, 333, 4444, 55555};

    for (size_t i = 0; i < countof(seeds); i++) {
        co_wake(co_new(keeps_registers, &seeds[i], &home.sched, "registers"));
    }
    home_run(&home);
    assert_string_equal(trace, "okokokokok");
}

CO_FN
static void uses_its_stack(void *opaque)
{
    char block[CO_STACK_BYTES / 2];

    memset(block, 7, sizeof(block));
    co_yield_turn();
    for (size_t i = 0; i < countof(block); i++) {
        assert_int_equal(block[i], 7);
    }
    say("s");
}

static void half_a_stack_is_there_to_use(void **state)
{
    home_start(&home, uses_its_stack, NULL, "stack");
    home_run(&home);
    assert_string_equal(trace, "s");
}

CO_FN
static void local_value(void *opaque)
{
    assert_null(co_local());
    co_set_local(opaque);
    co_yield_turn();
    assert_ptr_equal(co_local(), opaque);
}

static void local_travels_and_starts_empty(void **state)
{
    int a, b;

    assert_null(co_local());
    for (int round = 0; round < 2; round++) { /* the second round has the first one's stacks */
        co_wake(co_new(local_value, &a, &home.sched, "a"));
        co_wake(co_new(local_value, &b, &home.sched, "b"));
        home_run(&home);
    }
    assert_null(co_local());
}

CO_FN
static void ends_at_once(void *opaque)
{
    ++*(int *)opaque;
}

static unsigned mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    unsigned lines = 0;
    int c;

    while ((c = fgetc(file)) != EOF) {
        lines += c == '\n';
    }
    fclose(file);
    return lines;
}

static void the_pool_is_bounded_and_reused(void **state)
{
    enum { MANY = 4 * CO_POOL_STACKS_MAX };
    unsigned before = mappings(), after;
    int count = 0;

    for (int i = 0; i < MANY; i++) {
        co_wake(co_new(ends_at_once, &count, &home.sched, "burst"));
    }
    home_run(&home);
    assert_int_equal(count, MANY);
    after = mappings();
#ifdef CAISSON_TSAN
    print_message("skipped: the thread sanitizer has mappings of its own for each stack\n");
    return;
#endif
    assert_true(after <= before + 2 * CO_POOL_STACKS_MAX + 8);
    for (int i = 0; i < MANY; i++) {
        home_start(&home, ends_at_once, &count, "one at a time");
    }
    assert_true(mappings() <= after + 4);
    co_pool_release();
    assert_true(mappings() <= before + 8);
}

/* ---- what must abort ---- */

static struct co *victim;

static void first_waker(void)
{
    co_wake(victim);
}

static void second_waker(void)
{
    co_wake(victim);
}

static void wakes_twice(void)
{
    victim = home_start(&home, yields_twice, "a", "sleeper");
    first_waker();
    second_waker();
}

CO_FN
static void wakes_itself(void *opaque)
{
    co_wake(co_self());
}

static void wakes_a_running_one(void)
{
    home_start(&home, wakes_itself, NULL, "runner");
}

static void wakes_a_dead_one(void)
{
    int count = 0;

    victim = home_start(&home, ends_at_once, &count, "dead");
    second_waker();
}

CO_FN
static void yields_with_a_mutex(void *opaque)
{
    static struct mutex mutex = MUTEX_INIT(MUTEX_POOL);

    mutex_lock(&mutex);
    co_yield();
    mutex_unlock(&mutex);
}

static void mutex_over_a_yield(void)
{
    home_start(&home, yields_with_a_mutex, NULL, "locker");
}

CO_FN
static void yields_while_reading(void *opaque)
{
    rcu_read_enter();
    co_yield();
    rcu_read_leave();
}

static void read_section_over_a_yield(void)
{
    rcu_thread_register();
    home_start(&home, yields_while_reading, NULL, "reader");
}

CO_FN
static void yields_in_scope(void *opaque)
{
    NO_YIELD_SCOPE();
    co_yield();
}

static void yield_in_a_no_yield_scope(void)
{
    home_start(&home, yields_in_scope, NULL, "scoped");
}

CO_FN
static void starts_another(void *opaque)
{
    home_start(&home, yields_twice, "x", "inner");
}

static void nested_start(void)
{
    home_start(&home, starts_another, NULL, "outer");
}

CO_FN
static void overflows(void *opaque)
{
    volatile char block[4096];

    memset((char *)block, 1, sizeof(block));
    if (opaque != NULL) {
        overflows((void *)block);
    }
    block[0] = 0;
}

static void stack_overflow(void)
{
    home_start(&home, overflows, &home, "deep");
}

static void yields_outside(void)
{
    co_assert_inside();
}

static void misuse_aborts_and_names_the_parties(void **state)
{
    DIES_SAYING(wakes_twice, "second_waker", "'sleeper'", "ready", "first_waker");
    DIES_SAYING(wakes_a_running_one, "wakes_itself", "'runner'", "running");
    DIES_SAYING(wakes_a_dead_one, "second_waker", "'dead'", "done");
    DIES_SAYING(mutex_over_a_yield, "'locker'", "thread mutex");
    DIES_SAYING(read_section_over_a_yield, "'reader'", "RCU");
    DIES_SAYING(yield_in_a_no_yield_scope, "'scoped'", "test_co.c:");
    DIES_SAYING(nested_start, "'inner'", "'outer'");
    DIES_SAYING(yields_outside, "outside a coroutine");
    expect_death(stack_overflow, (const char *const[]){NULL});
}

ANY_THREAD
static void has_a_scope_of_its_own(void)
{
    NO_YIELD_SCOPE();
}

CO_FN
static void yields_after_scope(void *opaque)
{
    {
        NO_YIELD_SCOPE();
        has_a_scope_of_its_own();
    }
    co_yield_turn();
    say("after");
}

static void a_scope_ends(void **state)
{
    home_start(&home, yields_after_scope, NULL, "scope");
    home_run(&home);
    assert_string_equal(trace, "after");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(wake_runs_later_and_in_order, setup),
        cmocka_unit_test_setup(a_turn_lets_the_others_run, setup),
        cmocka_unit_test_setup(a_move_changes_the_home, setup),
        cmocka_unit_test_setup(registers_and_locals_survive_switches, setup),
        cmocka_unit_test_setup(half_a_stack_is_there_to_use, setup),
        cmocka_unit_test_setup(local_travels_and_starts_empty, setup),
        cmocka_unit_test_setup(the_pool_is_bounded_and_reused, setup),
        cmocka_unit_test_setup(misuse_aborts_and_names_the_parties, setup),
        cmocka_unit_test_setup(a_scope_ends, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
