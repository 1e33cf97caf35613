/* test_ring.c -- io_uring and epoll as a loop uses them. */
#include "helper.h"
#include "os/file.h"
#include "os/ring.h"
#include "os/socket.h"
#include "os/time.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

HOME_LOOP
static int setup(void **state)
{
    const char *text;
    struct err *error = NULL;
    struct os_ring *ring = os_ring_new(8, &text, &error);

    if (ring == NULL) {
        print_message("%s\n", error->text);
        return -1;
    }
    *state = ring;
    return 0;
}

HOME_LOOP
static int teardown(void **state)
{
    os_ring_free(*state);
    return 0;
}

HOME_LOOP
static struct os_ring_event wait_one(struct os_ring *ring)
{
    struct os_ring_event event = {0};

    assert_int_equal(os_ring_enter(ring, 1, 5000000000), 0);
    assert_int_equal(os_ring_reap(ring, &event, 1), 1);
    return event;
}

HOME_LOOP
static void file_io(void **state)
{
    struct os_ring *ring = *state;
    int fd = os_memfd("ring", 0);
    char out[4096], in[4096] = "";
    struct iovec out_iov = {memset(out, 7, sizeof(out)), sizeof(out)}, in_iov = {in, sizeof(in)};
    struct os_ring_event event;

    assert_true(os_ring_writev(ring, fd, &out_iov, 1, 8192, true, 1));
    assert_int_equal(os_ring_queued(ring), 1);
    event = wait_one(ring);
    assert_int_equal(os_ring_queued(ring), 0);
    assert_int_equal(event.user, 1);
    assert_int_equal(event.result, 4096);
    assert_true(os_ring_readv(ring, fd, &in_iov, 1, 8192, 2));
    event = wait_one(ring);
    assert_int_equal(event.user, 2);
    assert_memory_equal(in, out, sizeof(in));
    assert_true(os_ring_fdatasync(ring, fd, 3));
    assert_int_equal(wait_one(ring).result, 0);
    assert_true(os_ring_fallocate(ring, fd, 0, 0, 1 << 20, 4));
    assert_int_equal(wait_one(ring).result, 0);
    os_close_now(fd);
    assert_true(os_ring_readv(ring, fd, &in_iov, 1, 0, 5));
    assert_int_equal(wait_one(ring).result, -EBADF);
}

HOME_LOOP
static void a_poll_goes_on(void **state)
{
    struct os_ring *ring = *state;
    int fd = os_eventfd();
    struct os_ring_event event;

    assert_true(os_ring_poll_multi(ring, fd, POLLIN, 9));
    for (unsigned i = 0; i < 3; i++) { /* never read in between */
        os_eventfd_signal(fd);
        event = wait_one(ring);
        assert_int_equal(event.user, 9);
        assert_int_equal(event.result & POLLIN, POLLIN);
        assert_true(event.more);
        assert_int_equal(os_ring_enter(ring, 1, 1000000), -ETIME); /* one each */
    }
    assert_true(os_ring_cancel(ring, 9, 10));
    do {
        event = wait_one(ring);
    } while (event.user != 9);
    assert_false(event.more);
    os_close_now(fd);
}

HOME_LOOP
static void queue_is_bounded(void **state)
{
    struct os_ring *ring = *state;
    struct os_ring_event events[16];
    int fd = os_memfd("ring", 0), count = 0;

    while (os_ring_fdatasync(ring, fd, 1)) {
        count++;
    }
    assert_int_equal(count, 8);
    assert_int_equal(os_ring_enter(ring, 8, UINT64_MAX), 0);
    assert_int_equal(os_ring_reap(ring, events, 3), 3);
    assert_true(os_ring_has_events(ring));
    assert_int_equal(os_ring_reap(ring, events, 16), 5);
    os_close_now(fd);
}

/* A read of one of our eventfds stays pending; with deferred task work its completion shows as a
 * flag first, and entering makes it an event. */
HOME_LOOP
static void pending_read_of_an_eventfd(void **state)
{
    struct os_ring *ring = *state;
    int fd = os_eventfd();
    uint64_t value = 0;
    struct os_ring_event event;

    assert_true(os_ring_read(ring, fd, &value, sizeof(value), 7));
    assert_int_equal(os_ring_enter(ring, 0, 0), 0);
    assert_false(os_ring_has_events(ring));
    os_eventfd_signal(fd);
    assert_true(os_ring_has_events(ring));
    assert_int_equal(os_ring_enter(ring, 0, 0), 0);
    assert_int_equal(os_ring_reap(ring, &event, 1), 1);
    assert_int_equal(event.user, 7);
    assert_int_equal(value, 1);
    assert_false(os_ring_has_events(ring));
    os_close_now(fd);
}

HOME_LOOP
static void polls_are_one_shot(void **state)
{
    struct os_ring *ring = *state;
    struct os_ring_event event;
    int pair[2];
    char byte = 1;

    assert_int_equal(os_socketpair(pair), 0);
    assert_true(os_ring_poll(ring, pair[0], POLLIN, 1));
    assert_int_equal(os_ring_enter(ring, 0, 0), 0);
    assert_int_equal(os_write(pair[1], &byte, 1), 1);
    event = wait_one(ring);
    assert_true(event.result & POLLIN);
    assert_int_equal(os_write(pair[1], &byte, 1), 1);
    assert_int_equal(os_ring_enter(ring, 1, 1000000), -ETIME);
    assert_true(os_ring_poll(ring, pair[0], POLLIN, 2)); /* armed when it is ready already */
    assert_int_equal(wait_one(ring).user, 2);
    os_close_now(pair[1]);
    assert_true(os_ring_poll(ring, pair[0], POLLOUT, 3));
    assert_true(wait_one(ring).result & POLLHUP);
    os_close_now(pair[0]);
}

HOME_LOOP
static void cancel_ends_a_poll(void **state)
{
    struct os_ring *ring = *state;
    struct os_ring_event events[2];
    int fd = os_eventfd();
    unsigned count = 0;

    assert_true(os_ring_poll(ring, fd, POLLIN, 10));
    assert_true(os_ring_cancel(ring, 10, 11));
    while (count < 2) {
        assert_int_equal(os_ring_enter(ring, 1, 5000000000), 0);
        count += os_ring_reap(ring, events + count, 2 - count);
    }
    assert_int_equal(events[0].user + events[1].user, 21);
    assert_int_equal(events[events[0].user == 10 ? 0 : 1].result, -ECANCELED);
    assert_int_equal(events[events[0].user == 10 ? 1 : 0].result, 0);
    assert_true(os_ring_cancel(ring, 10, 12));
    assert_int_equal(wait_one(ring).result, -ENOENT);
    os_close_now(fd);
}

HOME_LOOP
static void timeouts(void **state)
{
    struct os_ring *ring = *state;
    uint64_t before = os_now_monotonic_ns(), took;

    assert_int_equal(os_ring_enter(ring, 1, 20000000), -ETIME);
    took = os_now_monotonic_ns() - before;
    assert_true(took >= 20000000);
    assert_true(took < 2000000000);
    assert_int_equal(os_ring_enter(ring, 0, UINT64_MAX), 0); /* waits for none */
    assert_int_equal(os_ring_enter(ring, 1, 0), 0);          /* does not wait */
}

/* More completions than the completion ring holds, all at once: those that wait outside show,
 * too. */
HOME_LOOP
static void overflow_loses_nothing(void **state)
{
    struct os_ring *ring = *state;
    struct os_ring_event events[128];
    unsigned count = 0, queued = 0;
    int fd = os_eventfd();

    os_eventfd_signal(fd);
    while (queued < 100) {
        if (os_ring_poll(ring, fd, POLLIN, 1)) {
            queued++;
        } else if (os_ring_enter(ring, 0, 0) == -EBUSY) {
            count += os_ring_reap(ring, events, countof(events));
        }
    }
    while (count < 100) {
        assert_true(os_ring_has_events(ring) || os_ring_queued(ring) > 0);
        os_ring_enter(ring, 0, 0);
        count += os_ring_reap(ring, events, countof(events));
    }
    assert_int_equal(count, 100);
    os_close_now(fd);
}

HOME_LOOP
static void epoll_set(void **state)
{
    int set = os_epoll_new(), fd = os_eventfd();
    struct os_epoll_event events[4];
    uint64_t before = os_now_monotonic_ns();

    assert_int_equal(os_epoll_set(set, fd, POLLIN, 5, true), 0);
    assert_int_equal(os_epoll_wait(set, events, 4, 0), 0);
    assert_int_equal(os_epoll_wait(set, events, 4, 1500000), 0);
    assert_true(os_now_monotonic_ns() - before >= 1500000);
    os_eventfd_signal(fd);
    assert_int_equal(os_epoll_wait(set, events, 4, UINT64_MAX), 1);
    assert_int_equal(events[0].user, 5);
    assert_int_equal(events[0].events, POLLIN);
    assert_int_equal(os_epoll_wait(set, events, 4, 0), 1); /* level */
    assert_int_equal(os_epoll_set(set, fd, 0, 5, false), 0);
    assert_int_equal(os_epoll_wait(set, events, 4, 0), 0);
    assert_int_equal(os_epoll_set(set, fd, POLLIN, 5, true), -EEXIST);
    assert_int_equal(os_epoll_remove(set, fd), 0);
    assert_int_equal(os_epoll_remove(set, fd), -ENOENT);
    os_close_now(fd);
    os_close_now(set);
}

HOME_LOOP
static void nothing_leaks(void **state)
{
    unsigned before = os_fd_count();
    void *ring = NULL;

    assert_int_equal(setup(&ring), 0);
    assert_int_equal(os_fd_count(), before + 1);
    teardown(&ring);
    assert_int_equal(os_fd_count(), before);
}

HOME_LOOP
static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(file_io, setup, teardown),
        cmocka_unit_test_setup_teardown(a_poll_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(pending_read_of_an_eventfd, setup, teardown),
        cmocka_unit_test_setup_teardown(polls_are_one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(cancel_ends_a_poll, setup, teardown),
        cmocka_unit_test_setup_teardown(timeouts, setup, teardown),
        cmocka_unit_test_setup_teardown(overflow_loses_nothing, setup, teardown),
        cmocka_unit_test(epoll_set),
        cmocka_unit_test(nothing_leaks),
    };
    void *ring = NULL;

    if (setup(&ring) != 0) {
        puts("skipped: io_uring is refused here");
        return 77;
    }
    teardown(&ring);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

TSA_TRUST
int main(void)
{
    return run();
}
