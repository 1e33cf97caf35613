/* test_rwlock.c -- co_rwlock and co_semaphore among coroutines of one home: who comes in when. */
#include "home.h"
#include "co/lock.h"

static struct home home;
static char trace[256];
static struct co_rwlock lock;
static struct co_semaphore semaphore;

static int setup(void **state)
{
    home_init(&home);
    co_rwlock_init(&lock);
    trace[0] = '\0';
    return 0;
}

static void say(const char *text)
{
    size_t used = strlen(trace);

    snprintf(trace + used, sizeof(trace) - used, "%s", text);
}

/* Each says its name when it is in and, in lower case, when it leaves; in between it waits. */
static struct co *inside[8];
static unsigned inside_count;

CO_FN
static void stays(void)
{
    inside[inside_count++] = co_self();
    co_yield();
}

CO_FN
static void reads(void *name)
{
    co_rwlock_rdlock(&lock);
    say(name);
    stays();
    say(".");
    co_rwlock_unlock(&lock);
}

CO_FN
static void writes(void *name)
{
    co_rwlock_wrlock(&lock);
    say(name);
    stays();
    say(".");
    co_rwlock_unlock(&lock);
}

/* All that are inside now leave, and those they let in begin. */
static void leave(void)
{
    unsigned count = inside_count;
    struct co *leaving[countof(inside)];

    memcpy(leaving, inside, sizeof(leaving));
    inside_count = 0;
    for (unsigned i = 0; i < count; i++) {
        co_wake(leaving[i]);
    }
    home_run(&home);
}

static void readers_share_and_a_writer_waits_in_line(void **state)
{
    home_start(&home, reads, "A", "a");
    home_start(&home, reads, "B", "b");
    home_start(&home, writes, "W", "w");
    home_start(&home, reads, "C", "c"); /* behind the writer */
    home_start(&home, reads, "D", "d");
    home_start(&home, writes, "X", "x");
    assert_string_equal(trace, "AB");
    leave();
    assert_string_equal(trace, "AB..W");
    leave();
    assert_string_equal(trace, "AB..W.CD");
    leave();
    assert_string_equal(trace, "AB..W.CD..X");
    leave();
    assert_int_equal(lock.readers, 0);
    assert_null(lock.writer);
}

CO_FN
static void upgrades(void *name)
{
    co_rwlock_rdlock(&lock);
    say(name);
    say(co_rwlock_upgrade(&lock) ? "+" : "-");
    say(name);
    stays();
    say(".");
    co_rwlock_unlock(&lock);
}

static void the_only_reader_upgrades_at_once(void **state)
{
    home_start(&home, upgrades, "U", "u");
    assert_string_equal(trace, "U+U");
    home_start(&home, reads, "A", "a");
    assert_string_equal(trace, "U+U");
    leave();
    assert_string_equal(trace, "U+U.A");
    leave();
}

static void an_upgrade_goes_ahead_of_those_that_wait(void **state)
{
    home_start(&home, reads, "A", "a");
    home_start(&home, upgrades, "U", "u");
    home_start(&home, writes, "W", "w");
    home_start(&home, reads, "B", "b");
    assert_string_equal(trace, "AU");
    leave();
    assert_string_equal(trace, "AU.+U");
    leave();
    assert_string_equal(trace, "AU.+U.W");
    leave();
    assert_string_equal(trace, "AU.+U.W.B");
    leave();
}

static void a_newcomer_waits_for_the_upgrade(void **state)
{
    home_start(&home, reads, "A", "a");
    home_start(&home, upgrades, "U", "u");
    home_start(&home, reads, "B", "b"); /* nobody is in the queue */
    assert_string_equal(trace, "AU");
    leave();
    assert_string_equal(trace, "AU.+U");
    leave();
    assert_string_equal(trace, "AU.+U.B");
    leave();
}

CO_FN
static void reads_then_upgrades(void *name)
{
    co_rwlock_rdlock(&lock);
    stays();
    say(co_rwlock_upgrade(&lock) ? "+" : "-");
    say(name);
    stays();
    co_rwlock_unlock(&lock);
}

static void of_two_upgrades_one_lets_go(void **state)
{
    home_start(&home, reads_then_upgrades, "U", "u");
    home_start(&home, reads_then_upgrades, "V", "v");
    home_start(&home, writes, "W", "w");
    leave(); /* both ask; V lets go and U writes */
    assert_string_equal(trace, "+U");
    leave();
    assert_string_equal(trace, "+UW"); /* first come */
    leave();
    assert_string_equal(trace, "+UW.-V");
    leave();
    assert_int_equal(lock.readers, 0);
    assert_null(lock.writer);
}

CO_FN
static void downgrades(void *name)
{
    co_rwlock_wrlock(&lock);
    say(name);
    stays();
    co_rwlock_downgrade(&lock);
    say("v");
    stays();
    say(".");
    co_rwlock_unlock(&lock);
}

static void a_downgrade_lets_the_next_readers_in(void **state)
{
    home_start(&home, downgrades, "D", "d");
    home_start(&home, reads, "A", "a");
    home_start(&home, writes, "W", "w");
    home_start(&home, reads, "B", "b");
    assert_string_equal(trace, "D");
    leave();
    assert_string_equal(trace, "DvA");
    leave();
    assert_string_equal(trace, "DvA..W");
    leave();
    assert_string_equal(trace, "DvA..W.B");
    leave();
}

/* ---- death ---- */

CO_FN
static void writes_twice(void *opaque)
{
    co_rwlock_wrlock(&lock);
    co_rwlock_wrlock(&lock);
}

static void writer_twice(void)
{
    home_start(&home, writes_twice, NULL, "greedy");
}

CO_FN
static void unlocks_only(void *opaque)
{
    co_rwlock_unlock(&lock);
}

static void unlocks_unlocked(void)
{
    home_start(&home, unlocks_only, NULL, "confused");
}

static void misuse_aborts(void **state)
{
    DIES_SAYING(writer_twice, "greedy", "holds");
    DIES_SAYING(unlocks_unlocked, "readers > 0");
}

/* ---- semaphore ---- */

CO_FN
static void takes(void *name)
{
    co_semaphore_take(&semaphore);
    say(name);
}

static void permits_go_in_order(void **state)
{
    co_semaphore_init(&semaphore, 2);
    home_start(&home, takes, "A", "a");
    home_start(&home, takes, "B", "b");
    home_start(&home, takes, "C", "c");
    home_start(&home, takes, "D", "d");
    assert_string_equal(trace, "AB");
    assert_false(co_semaphore_try_take(&semaphore));
    co_semaphore_give(&semaphore);
    assert_false(co_semaphore_try_take(&semaphore)); /* it is C's, who has not run yet */
    home_run(&home);
    assert_string_equal(trace, "ABC");
    co_semaphore_give(&semaphore);
    co_semaphore_give(&semaphore);
    home_run(&home);
    assert_string_equal(trace, "ABCD");
    assert_true(co_semaphore_try_take(&semaphore));
    assert_false(co_semaphore_try_take(&semaphore));
}

#define case_(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        case_(readers_share_and_a_writer_waits_in_line),
        case_(the_only_reader_upgrades_at_once),
        case_(an_upgrade_goes_ahead_of_those_that_wait),
        case_(a_newcomer_waits_for_the_upgrade),
        case_(of_two_upgrades_one_lets_go),
        case_(a_downgrade_lets_the_next_readers_in),
        case_(misuse_aborts),
        case_(permits_go_in_order),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);

    co_pool_release();
    return failures;
}
