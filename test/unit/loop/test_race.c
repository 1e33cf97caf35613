/*
 * test_race.c -- the race stress: 4 loops, 8 foreign threads, everything at random, and loops that
 * come and go meanwhile. STRESS_SECONDS says for how long (2). A watchdog that sees nothing move
 * prints what every loop is doing and aborts.
 */
#include "harness.h"
#include <sched.h>
#include "base/mem.h"
#include "co/lock.h"
#include "co/rcu.h"
#include "loop/dump.h"
#include "loop/iothread.h"
#include "os/file.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"
#include "sync/rcu.h"

enum { PLACES = 4, FOREIGN = 8, COS_PER_PLACE = 6, BHS_PER_PLACE = 4, STILL_S_MAX = 25 };

enum kind { BH_RUNS, BH_ONCES, LOCKS, SLEEPS, TIMERS, FD_EVENTS, TRANSFERS, CALLS, MOVES, WAKES,
            GRACES, TEARDOWNS, KINDS };
static uint64_t done[KINDS]; /* atomic */
static const char *const kind_names[KINDS] = {"bh", "once", "lock", "sleep", "timer", "fd", "io",
                                              "pool", "move", "wake", "rcu", "teardown"};

/*
 * Where a loop is, or is just not. Place 0 is the main loop, which stays. Who does not live there
 * counts itself in `users` before it uses the loop or the BHs, and looks at `is_closed` after;
 * whoever tears down closes, then waits for `users` and `dwellers` to be 0.
 */
struct place {
    struct loop *loop;
    uint32_t is_closed; /* atomic */
    uint32_t users;     /* atomic */
    uint32_t dwellers;  /* atomic: coroutines that live here, or are on their way */
    struct bh *bhs[BHS_PER_PLACE];
};
static struct place places[PLACES];
static uint32_t stopping, living; /* atomic */

static struct co_mutex mutex;
static struct co_rwlock rwlock;
static struct co_semaphore semaphore;
static unsigned under_mutex, written;
static struct loop_bed beds[FOREIGN];
static struct io_file file;
static int file_fd;

static bool is_over(void)
{
    return at_load(&stopping) != 0;
}

static void count(enum kind kind)
{
    at_add(&done[kind], 1);
}

static bool place_enter(struct place *place)
{
    at_add(&place->users, 1);
    if (at_load(&place->is_closed) == 0) {
        return true;
    }
    at_sub(&place->users, 1);
    return false;
}

static void place_leave(struct place *place)
{
    at_sub(&place->users, 1);
}

/* ---- what foreign threads do ---- */

HOME_LOOP
static void bh_runs(void *opaque)
{
    count(BH_RUNS);
}

HOME_LOOP
static void once_runs(void *opaque)
{
    count(BH_ONCES);
}

BLOCKING
static void pester(struct place *place, unsigned *seed)
{
    struct bh *bh = place->bhs[rand_r(seed) % BHS_PER_PLACE];

    switch (rand_r(seed) % 5) {
    case 0:
        bh_once(place->loop, once_runs, NULL, "once");
        break;
    case 1:
        bh_cancel(bh);
        break;
    case 2:
        bh_schedule_idle(bh);
        break;
    default:
        bh_schedule(bh);
        break;
    }
}

BLOCKING
static void foreign_main(void *opaque)
{
    unsigned self = (unsigned)(uintptr_t)opaque, seed = self + 1;

    while (at_load(&living) > 0) {
        struct place *place = &places[rand_r(&seed) % PLACES];

        if (place_enter(place)) {
            pester(place, &seed);
            place_leave(place);
        }
        if (rand_r(&seed) % 4 == 0) {
            loop_bed_wake(&beds[self]);
        }
        if (rand_r(&seed) % 8 == 0) {
            usleep((unsigned)rand_r(&seed) % 300);
        }
    }
}

/* ---- what coroutines do ---- */

BLOCKING
static int64_t called(void *opaque)
{
    return 3;
}

CO_FN
static void transfers(unsigned *seed)
{
    uint8_t block[1024];
    struct iovec iov = {block, sizeof(block)};
    uint64_t offset = (uint64_t)(rand_r(seed) % 64) * sizeof(block);

    expect(io_co_pwritev(&file, &iov, 1, offset, 0) == sizeof(block));
    expect(io_co_preadv(&file, &iov, 1, offset) == sizeof(block));
    count(TRANSFERS);
}

CO_FN
static void watches_an_fd(void)
{
    int fd = os_eventfd();

    expect(loop_co_wait_fd(fd, LOOP_IN, os_now_monotonic_ns() + 50000) == -ETIMEDOUT);
    os_eventfd_signal(fd);
    expect(loop_co_wait_fd(fd, LOOP_IN, 0) == LOOP_IN);
    os_close_now(fd);
    count(FD_EVENTS);
}

CO_FN
static void locks(unsigned *seed)
{
    co_semaphore_take(&semaphore);
    co_mutex_lock(&mutex);
    expect(under_mutex++ == 0);
    if (rand_r(seed) % 4 == 0) {
        co_yield_turn();
    }
    expect(--under_mutex == 0);
    co_mutex_unlock(&mutex);
    co_semaphore_give(&semaphore);
    if (rand_r(seed) % 3 != 0) {
        unsigned seen;

        co_rwlock_rdlock(&rwlock);
        seen = written;
        co_yield_turn();
        expect(seen == written);
    } else {
        co_rwlock_wrlock(&rwlock);
        written++;
    }
    co_rwlock_unlock(&rwlock);
    count(LOCKS);
}

struct garbage {
    struct rcu_node node;
};

ANY_THREAD
static void free_garbage(struct rcu_node *node)
{
    mem_free(container_of(node, struct garbage, node));
}

CO_FN
static void leaves_garbage(unsigned *seed)
{
    struct garbage *garbage = mem_new(struct garbage);

    rcu_call(&garbage->node, free_garbage);
    if (rand_r(seed) % 16 == 0) {
        co_rcu_barrier();
    }
    count(GRACES);
}

CO_FN
static void move_to(struct place *to, struct place **at)
{
    if (to != *at && place_enter(to)) {
        at_add(&to->dwellers, 1);
        place_leave(to);
        loop_co_move(to->loop);
        at_sub(&(*at)->dwellers, 1);
        *at = to;
        count(MOVES);
    }
}

/* One at a time in a bed. */
CO_FN
static void sleeps_in_a_bed(unsigned number, unsigned *seed)
{
    static uint32_t taken[FOREIGN]; /* atomic */
    unsigned which = number % FOREIGN;

    if (at_xchg(&taken[which], 1) == 0) {
        if (loop_co_sleep_in(&beds[which], (uint64_t)rand_r(seed) % 400000)) {
            count(WAKES);
        }
        at_store(&taken[which], 0);
    }
}

CO_FN
static void acts(unsigned number, struct place **at, unsigned *seed)
{
    switch (rand_r(seed) % 9) {
    case 0:
    case 1:
        move_to(&places[rand_r(seed) % PLACES], at);
        break;
    case 2:
        transfers(seed);
        break;
    case 3:
        expect(pool_co_call(&file.share, called, NULL) == 3);
        count(CALLS);
        break;
    case 4:
        watches_an_fd();
        break;
    case 5:
        loop_co_sleep((uint64_t)rand_r(seed) % 100000);
        count(SLEEPS);
        break;
    case 6:
        sleeps_in_a_bed(number, seed);
        break;
    case 7:
        leaves_garbage(seed);
        break;
    default:
        locks(seed);
        break;
    }
}

CO_FN
static void busy(void *opaque)
{
    unsigned number = (unsigned)(uintptr_t)opaque, seed = number + 100;
    struct place *at = &places[number % PLACES];

    while (!is_over()) {
        acts(number, &at, &seed);
        if (at_load(&at->is_closed) != 0) {
            move_to(&places[0], &at);
        }
    }
    move_to(&places[0], &at);
    at_sub(&living, 1);
}

/* ---- timers that arm each other, on the main loop ---- */

static struct loop_timer timers[16];
static unsigned timer_seed = 5;

HOME_LOOP
static void on_timer(void *opaque)
{
    struct loop_timer *timer = &timers[(unsigned)rand_r(&timer_seed) % countof(timers)];

    count(TIMERS);
    if (rand_r(&timer_seed) % 4 == 0) {
        loop_timer_cancel(timer);
    }
    loop_timer_arm(opaque, os_now_monotonic_ns() + (uint64_t)rand_r(&timer_seed) % 200000);
}

/* ---- teardown ---- */

static const char *const ids[PLACES] = {"main", "race1", "race2", "race3"};

MAIN_LOOP
static void place_open(struct place *place, struct loop *loop)
{
    place->loop = loop; /* seen by who finds the place open */
    for (unsigned i = 0; i < BHS_PER_PLACE; i++) {
        place->bhs[i] = bh_new(loop, bh_runs, NULL, "shared");
    }
    at_store(&place->is_closed, 0);
}

MAIN_LOOP CO_FN
static void thread_open(unsigned i)
{
    struct iothread_options options = {.poll_max_ns = i % 2 ? 20000 : 0, .thread_pool_max = 64};

    expect(iothread_co_new(ids[i], &options, NULL) == 0);
    place_open(&places[i], iothread_loop(iothread_find(ids[i])));
}

MAIN_LOOP
static void place_close(struct place *place)
{
    for (unsigned i = 0; i < BHS_PER_PLACE; i++) {
        if (i % 2 == 0) {
            bh_schedule(place->bhs[i]); /* deleted while it is queued */
        }
        bh_delete(place->bhs[i]);
    }
}

/* Coroutines that live there leave by themselves; what others have scheduled is still run. */
MAIN_LOOP CO_FN
static void thread_close(unsigned i)
{
    struct place *place = &places[i];
    struct iothread *thread = iothread_find(ids[i]);

    at_store(&place->is_closed, 1);
    while (at_load(&place->users) > 0 || at_load(&place->dwellers) > 0) {
        loop_co_sleep(200000);
    }
    place_close(place);
    expect(iothread_co_delete(thread, NULL) == 0);
    count(TEARDOWNS);
}

/* ---- the watchdog ---- */

ANY_THREAD
static void to_stderr(const char *line, void *opaque)
{
    fprintf(stderr, "%s\n", line);
}

/* Of what coroutines do: timers fire and foreign threads go on when all of those hang. */
static uint64_t sum(void)
{
    uint64_t total = 0;

    for (unsigned i = LOCKS; i < KINDS; i++) {
        total += i == TIMERS ? 0 : at_load(&done[i]);
    }
    return total;
}

BLOCKING
static void watchdog_main(void *opaque)
{
    uint64_t before = sum();
    unsigned still_s = 0;

    while (at_load(&living) > 0) {
        usleep(100000);
        still_s += 1;
        if (sum() != before) {
            before = sum();
            still_s = 0;
        }
        if (still_s > STILL_S_MAX * 10) {
            loop_dump(LOOP_DUMP_STANDING_STILL, to_stderr, NULL);
            panic("nothing has moved for %d s", STILL_S_MAX);
        }
    }
}

/* ---- the run ---- */

BLOCKING
static int64_t joins(void *opaque)
{
    os_thread_join(opaque);
    return 0;
}

MAIN_LOOP CO_FN
static void set_up(void)
{
    io_file_init(&file, file_fd, IO_ENGINE);
    co_semaphore_init(&semaphore, 5);
    place_open(&places[0], loop_self());
    for (unsigned i = 1; i < PLACES; i++) {
        thread_open(i);
    }
    for (unsigned i = 0; i < FOREIGN; i++) {
        loop_bed_init(&beds[i]);
    }
    loop_assert_home(loop_self());
    for (unsigned i = 0; i < countof(timers); i++) {
        loop_timer_init(&timers[i], LOOP_CLOCK_MONOTONIC, on_timer, &timers[i]);
        loop_timer_arm(&timers[i], 0);
    }
    at_store(&living, PLACES * COS_PER_PLACE);
    for (unsigned i = 0; i < PLACES * COS_PER_PLACE; i++) {
        at_add(&places[i % PLACES].dwellers, 1);
        loop_co_spawn(places[i % PLACES].loop, busy, (void *)(uintptr_t)i, "busy");
    }
}

MAIN_LOOP CO_FN
static void tear_down(void)
{
    for (unsigned i = 1; i < PLACES; i++) {
        thread_close(i);
    }
    place_close(&places[0]);
    loop_assert_home(loop_self());
    for (unsigned i = 0; i < countof(timers); i++) {
        loop_timer_cancel(&timers[i]);
    }
    co_rcu_barrier();
    io_file_fini(&file);
}

MAIN_LOOP CO_FN
static void race(void *opaque)
{
    uint64_t end_ns = os_now_monotonic_ns() + *(uint64_t *)opaque * 1000000000;
    struct os_thread *threads[FOREIGN + 1];
    unsigned seed = 77;

    set_up();
    for (unsigned i = 0; i < FOREIGN; i++) {
        threads[i] = os_thread_start("foreign", foreign_main, (void *)(uintptr_t)i);
    }
    threads[FOREIGN] = os_thread_start("watchdog", watchdog_main, NULL);
    while (os_now_monotonic_ns() < end_ns) {
        unsigned i = 1 + (unsigned)rand_r(&seed) % (PLACES - 1);

        loop_co_sleep(20000000);
        thread_close(i);
        thread_open(i);
    }
    at_store(&stopping, 1);
    while (at_load(&living) > 0) {
        loop_co_sleep(1000000);
    }
    for (unsigned i = 0; i < FOREIGN + 1; i++) {
        pool_co_call(NULL, joins, threads[i]);
    }
    tear_down();
}

static void everything_races(void **state)
{
    const char *seconds_text = getenv("STRESS_SECONDS");
    char path[] = "/var/tmp/caisson-race-XXXXXX";
    uint64_t seconds = seconds_text ? strtoull(seconds_text, NULL, 10) : 2;

    file_fd = os_mkstemp(path);
    assert_true(file_fd >= 0);
    os_unlink(path);
    assert_int_equal(os_ftruncate(file_fd, 1 << 20), 0);
    alarm((unsigned)seconds + 2 * HANG_SECONDS);
    run_co(race, &seconds);
    os_close(file_fd);
    for (unsigned i = 0; i < KINDS; i++) {
        print_message("%s %lu ", kind_names[i], (unsigned long)done[i]);
        assert_true(done[i] > 0);
    }
    print_message("\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(everything_races),
    };
    int failures;

    test_begin(argc, argv);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
