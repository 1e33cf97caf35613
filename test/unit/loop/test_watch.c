/* test_watch.c -- fd watches and sources looked at in memory. */
#include "harness.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/time.h"
#include <sys/epoll.h>

struct source {
    struct loop_watch watch;
    int fd, other_end;
    int calls;
    unsigned last_events;
    ANY_SLOT void (*action)(struct source *source); /* HOME_LOOP */
    struct source *target;
};

HOME_LOOP
static void on_ready(void *opaque, unsigned events)
{
    struct source *source = opaque;

    source->calls++;
    source->last_events = events;
    if (source->action != NULL) {
        source->action(source);
    }
}

static const struct loop_watch_ops plain_ops = {.ready = on_ready};

static void open_source(struct source *source, unsigned events)
{
    int fds[2];

    loop_assert_home(loop_self());
    memset(source, 0, sizeof(*source));
    assert_true(os_socketpair(fds) >= 0);
    source->fd = fds[0];
    source->other_end = fds[1];
    assert_int_equal(loop_watch_add(&source->watch, source->fd, events, &plain_ops, source), 0);
}

static void close_source(struct source *source)
{
    loop_assert_home(loop_self());
    loop_watch_remove(&source->watch);
    os_close_now(source->fd);
    os_close_now(source->other_end);
}

static void poke(struct source *source)
{
    struct iovec iov = {"x", 1};

    expect(os_send(source->other_end, &iov, 1, NULL, 0) == 1);
}

static void drink(struct source *source)
{
    char byte;
    int fds[OS_SOCKET_FDS_MAX], fd_count;

    expect(os_receive(source->fd, &byte, 1, fds, &fd_count) == 1);
}

static void turns(struct loop *loop, int count)
{
    while (count-- > 0) {
        loop_poll(loop, false);
    }
}

static void level_semantics(void **state)
{
    struct source source;

    open_source(&source, LOOP_IN);
    turns(*state, 3);
    assert_int_equal(source.calls, 0);
    poke(&source);
    poke(&source);
    for (int i = 1; i <= 5; i++) {
        loop_poll(*state, true);
        assert_int_equal(source.calls, i);
        assert_int_equal(source.last_events, LOOP_IN);
    }
    drink(&source); /* one byte left: still ready */
    loop_poll(*state, true);
    assert_int_equal(source.calls, 6);
    drink(&source);
    turns(*state, 2); /* the engine may have seen it before the drink */
    source.calls = 0;
    turns(*state, 3);
    assert_int_equal(source.calls, 0);
    close_source(&source);
}

static void events_are_switched(void **state)
{
    struct source source;

    loop_assert_home(*state);
    open_source(&source, 0);
    poke(&source);
    turns(*state, 3);
    assert_int_equal(source.calls, 0);
    loop_watch_set(&source.watch, LOOP_OUT);
    loop_poll(*state, true);
    assert_int_equal(source.calls, 1);
    assert_int_equal(source.last_events, LOOP_OUT);
    loop_watch_set(&source.watch, LOOP_IN | LOOP_OUT);
    loop_poll(*state, true);
    assert_int_equal(source.last_events, LOOP_IN | LOOP_OUT);
    loop_watch_set(&source.watch, 0);
    source.calls = 0;
    turns(*state, 3);
    assert_int_equal(source.calls, 0);
    loop_watch_set(&source.watch, LOOP_IN);
    os_socket_shutdown(source.other_end);
    loop_poll(*state, true);
    assert_true(source.last_events & LOOP_IN);
    close_source(&source);
}

/* ---- changes from inside callbacks ---- */

HOME_LOOP
static void removes_target(struct source *source)
{
    loop_watch_remove(&source->target->watch);
}

HOME_LOOP
static void stops_target(struct source *source)
{
    loop_watch_set(&source->target->watch, 0);
}

static void removal_from_inside_any_callback(void **state)
{
    struct source a, b;

    open_source(&a, LOOP_IN);
    open_source(&b, LOOP_IN);
    a.action = b.action = removes_target;
    a.target = &b;
    b.target = &a;
    poke(&a);
    poke(&b);
    turns(*state, 4);
    /* whoever came first removed the other, whose event was perhaps fetched already */
    assert_true((a.calls > 0) != (b.calls > 0));
    a.target = &a;
    b.target = &b;
    turns(*state, 4);
    assert_int_equal(a.calls == 0 ? b.calls : a.calls, a.calls + b.calls);
    close_source(&a);
    close_source(&b);
}

static void own_removal_and_free(void **state)
{
    struct source *source = malloc(sizeof(*source));
    int fd, other_end;

    open_source(source, LOOP_IN);
    fd = source->fd;
    other_end = source->other_end;
    source->action = removes_target;
    source->target = source;
    poke(source);
    loop_poll(*state, true);
    assert_int_equal(source->calls, 1);
    free(source); /* the loop must not look at it again */
    turns(*state, 4);
    os_close_now(fd);
    os_close_now(other_end);
}

static void a_stopped_watch_is_not_called(void **state)
{
    struct source a, b;

    open_source(&a, LOOP_IN);
    open_source(&b, LOOP_IN);
    a.action = b.action = stops_target;
    a.target = &b;
    b.target = &a;
    poke(&a);
    poke(&b);
    turns(*state, 4);
    assert_true((a.calls > 0) != (b.calls > 0));
    close_source(&a);
    close_source(&b);
}

/* An fd number used anew right after its watch was removed: the old one's event is not the new
 * one's. */
static void a_reused_fd_does_not_get_a_former_event(void **state)
{
    struct source source;

    loop_assert_home(*state);
    for (int round = 0; round < 50; round++) {
        open_source(&source, LOOP_IN);
        loop_poll(*state, false);
        poke(&source);
        if (round % 2) {
            loop_watch_remove(&source.watch);
        }
        close_source(&source);
        open_source(&source, LOOP_IN);
        loop_poll(*state, false);
        loop_poll(*state, false);
        assert_int_equal(source.calls, 0);
        close_source(&source);
    }
}

static void two_watches_of_one_fd(void **state)
{
    struct source reader, writer;

    loop_assert_home(*state);
    open_source(&reader, LOOP_IN);
    memset(&writer, 0, sizeof(writer));
    assert_int_equal(loop_watch_add(&writer.watch, reader.fd, LOOP_OUT, &plain_ops, &writer), 0);
    loop_poll(*state, true);
    assert_int_equal(writer.last_events, LOOP_OUT);
    assert_int_equal(reader.calls, 0);
    poke(&reader);
    turns(*state, 3);
    assert_true(reader.calls > 0);
    assert_int_equal(writer.last_events, LOOP_OUT);
    loop_watch_remove(&writer.watch);
    close_source(&reader);
}

static void a_bad_fd_is_reported_not_spun_on(void **state)
{
    struct source source = {.fd = 999};
    int rc;

    loop_assert_home(*state);
    rc = loop_watch_add(&source.watch, 999, LOOP_IN, &plain_ops, &source);
    turns(*state, 5);
    if (rc == 0) {
        assert_int_equal(source.calls, 1);
        assert_true(source.last_events & LOOP_ERR);
    } else {
        assert_int_equal(rc, -EBADF);
    }
    loop_watch_remove(&source.watch);
}

static void many_watches_one_ready(void **state)
{
    static struct source sources[300];
    int extra = 0;

    for (size_t i = 0; i < countof(sources); i++) {
        open_source(&sources[i], LOOP_IN);
    }
    turns(*state, 8);
    poke(&sources[123]);
    loop_poll(*state, true);
    for (size_t i = 0; i < countof(sources); i++) {
        extra += i != 123 ? sources[i].calls : 0;
    }
    assert_int_equal(sources[123].calls, 1);
    assert_int_equal(extra, 0);
    for (size_t i = 0; i < countof(sources); i++) {
        close_source(&sources[i]);
    }
}

/* ---- a poll inside a callback ---- */

HOME_LOOP
static void polls_nested(struct source *source)
{
    expect(source->calls < 10); /* not entered again by its own nested poll (RACES 8) */
    loop_poll(loop_self(), false);
    loop_poll(loop_self(), false);
}

static void a_callback_that_polls_is_not_entered_again(void **state)
{
    struct source source, other;

    open_source(&source, LOOP_IN);
    open_source(&other, LOOP_IN);
    source.action = polls_nested;
    poke(&source);
    poke(&other);
    while (source.calls == 0) {
        loop_poll(*state, true);
    }
    assert_int_equal(source.calls, 1);
    assert_true(other.calls > 0); /* what the outer level had fetched, the inner one handed out */
    source.action = NULL;
    loop_poll(*state, true);
    assert_int_equal(source.calls, 2); /* still ready: level */
    close_source(&source);
    close_source(&other);
}

/* ---- sources looked at in memory ---- */

struct memory_source {
    struct loop_watch watch;
    int fd;
    int items, handled, notified_on, notified_off;
    bool notify;
};

HOME_LOOP
static void memory_ready(void *opaque, unsigned events)
{
    struct memory_source *source = opaque;

    if (events & LOOP_IN) {
        os_eventfd_clear(source->fd);
    }
    source->handled += source->items;
    source->items = 0;
}

HOME_LOOP
static bool memory_poll(void *opaque)
{
    return ((struct memory_source *)opaque)->items > 0;
}

HOME_LOOP
static bool memory_before_sleep(void *opaque)
{
    struct memory_source *source = opaque;

    expect(!source->notify);
    source->notify = true;
    source->notified_on++;
    if (source->notified_on == 1) {
        source->items++; /* one that came just before notification was on */
    }
    return source->items > 0;
}

HOME_LOOP
static void memory_after_sleep(void *opaque)
{
    struct memory_source *source = opaque;

    expect(source->notify);
    source->notify = false;
    source->notified_off++;
}

static const struct loop_watch_ops memory_ops = {
    .ready = memory_ready,
    .poll = memory_poll,
    .before_sleep = memory_before_sleep,
    .after_sleep = memory_after_sleep,
};

HOME_LOOP
static void gives_an_item(void *opaque)
{
    struct memory_source *source = opaque;

    source->items++;
    if (source->notify) {
        os_eventfd_signal(source->fd);
    }
}

static void a_polled_source_is_notified_only_for_sleep(void **state)
{
    struct loop *loop = *state;
    struct memory_source source = {.notify = true, .fd = os_eventfd()};
    struct loop_stats stats;

    loop_assert_home(loop);
    assert_int_equal(loop_watch_add(&source.watch, source.fd, LOOP_IN, &memory_ops, &source), 0);
    loop_set_polling(loop, 2000000, 0, 0);
    for (int i = 0; i < 20; i++) { /* waits that polling could have covered let it grow */
        struct loop_timer timer;

        loop_timer_init(&timer, LOOP_CLOCK_MONOTONIC, gives_an_item, &source);
        loop_timer_arm(&timer, os_now_monotonic_ns() + 100000);
        while (source.handled + source.items == i) {
            loop_poll(loop, true);
        }
        loop_poll(loop, true);
    }
    loop_get_stats(loop, &stats);
    assert_true(source.notified_off > 0);
    assert_true(source.notified_on == source.notified_off ||
                source.notified_on == source.notified_off - 1);
    assert_true(stats.polls_hit > 0);
    loop_watch_remove(&source.watch);
    os_close_now(source.fd);
}

HOME_LOOP
static void never_ready(void *opaque, unsigned events)
{
    fail_msg("events %#x of a set in which nothing is ready", events);
}

static const struct loop_watch_ops never_ops = {.ready = never_ready};

/* Somebody else's epoll set, stopped and started again; meanwhile it has come to nest as deep as
 * the kernel allows. */
static void a_stopped_watch_can_be_started_again(void **state)
{
    struct loop *loop = *state;
    struct loop_watch watch = {NULL};
    struct epoll_event event = {.events = EPOLLIN};
    int sets[5];

    loop_assert_home(loop);
    for (size_t i = 0; i < countof(sets); i++) {
        sets[i] = epoll_create1(EPOLL_CLOEXEC);
    }
    assert_int_equal(loop_watch_add(&watch, sets[0], LOOP_IN, &never_ops, NULL), 0);
    turns(loop, 2);
    loop_watch_set(&watch, 0);
    turns(loop, 2);
    for (size_t i = countof(sets) - 1; i-- > 0;) {
        epoll_ctl(sets[i], EPOLL_CTL_ADD, sets[i + 1], &event); /* refused, or it must not matter */
    }
    loop_watch_set(&watch, LOOP_IN);
    turns(loop, 2);
    loop_watch_remove(&watch);
    for (size_t i = 0; i < countof(sets); i++) {
        os_close_now(sets[i]);
    }
}

static void a_stopped_source_is_not_looked_at(void **state)
{
    struct loop *loop = *state;
    struct memory_source source = {.notify = true};

    loop_assert_home(loop);
    assert_int_equal(loop_watch_add(&source.watch, -1, LOOP_IN, &memory_ops, &source), 0);
    source.items = 1;
    loop_poll(loop, false);
    assert_int_equal(source.handled, 1);
    loop_watch_set(&source.watch, 0);
    source.items = 1;
    turns(loop, 5);
    assert_int_equal(source.handled, 1);
    loop_watch_set(&source.watch, LOOP_IN);
    loop_poll(loop, true);
    assert_int_equal(source.handled, 2);
    loop_watch_remove(&source.watch);
}

/* ---- coroutines ---- */

static struct source co_source;

CO_FN
static void waits_for_fds(void *opaque)
{
    uint64_t began_ns = os_now_monotonic_ns();

    expect(loop_co_wait_fd(co_source.fd, LOOP_OUT, 0) == LOOP_OUT);
    expect(loop_co_wait_fd(co_source.fd, LOOP_IN, began_ns + 5000000) == -ETIMEDOUT);
    expect(os_now_monotonic_ns() >= began_ns + 5000000);
    poke(&co_source);
    expect(loop_co_wait_fd(co_source.fd, LOOP_IN, began_ns + 5000000000) == LOOP_IN);
}

static void a_coroutine_waits_for_an_fd(void **state)
{
    open_source(&co_source, 0);
    run_co(waits_for_fds, NULL);
    close_source(&co_source);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(level_semantics),
        loop_test(events_are_switched),
        loop_test(removal_from_inside_any_callback),
        loop_test(own_removal_and_free),
        loop_test(a_stopped_watch_is_not_called),
        loop_test(a_reused_fd_does_not_get_a_former_event),
        loop_test(two_watches_of_one_fd),
        loop_test(a_bad_fd_is_reported_not_spun_on),
        loop_test(many_watches_one_ready),
        loop_test(a_callback_that_polls_is_not_entered_again),
        loop_test(a_polled_source_is_notified_only_for_sleep),
        loop_test(a_stopped_watch_can_be_started_again),
        loop_test(a_stopped_source_is_not_looked_at),
        loop_test(a_coroutine_waits_for_an_fd),
    };

    test_begin(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
