/*
 * test_platform.c -- the simulated system calls behave as those they stand for, where the program
 * relies on it: each test here is one of test/unit/os told once more, or a property only a
 * simulation has.
 */
#include "os/file.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/ring.h"
#include "os/socket.h"
#include "os/thread.h"
#include "os/time.h"
#include "sim/test/fork.h"
#include "sync/rcu.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : panic("%s:%d: %s", __FILE__, __LINE__, #condition))

static void files(void *opaque)
{
    char path[] = "/tmp/XXXXXX";
    char text[16] = "";
    struct iovec out = {(void *)(uintptr_t) "hello", 5}, in = {text, sizeof(text)};
    int fd = os_mkstemp(path), other = os_open(path, O_RDONLY, 0);
    struct stat info;

    CHECK(os_open("/none", O_RDWR, 0) == -ENOENT);
    CHECK(os_open(path, O_RDWR | O_CREAT | O_EXCL, 0) == -EEXIST);
    CHECK(os_pwritev(fd, &out, 1, 100, true) == 5);
    CHECK(os_preadv(other, &in, 1, 100) == 5);
    CHECK(memcmp(text, "hello", 5) == 0);
    CHECK(os_pwritev(other, &out, 1, 0, false) == -EBADF); /* read only */
    CHECK(os_fstat(other, &info) == 0 && info.st_size == 105 && S_ISREG(info.st_mode));
    CHECK(os_seek_data(fd, 200) == -ENXIO);
    CHECK(os_rename(path, "/new") == 0 && os_stat(path, &info) == -ENOENT);
    CHECK(os_unlink("/new") == 0 && os_unlink("/new") == -ENOENT);
    CHECK(os_preadv(other, &in, 1, 100) == 5); /* lives as long as it is open */
    CHECK(os_close(fd) == 0 && os_close(other) == 0 && os_close(fd) == -EBADF);
    CHECK(os_fd_count() == 0);
}

static void direct_io(void *opaque)
{
    static char block[1024] __attribute__((aligned(512)));
    struct iovec good = {block, 512}, bad = {block + 1, 512};
    int fd;

    sim_file_create("/d", 4096);
    fd = os_open("/d", O_RDWR | O_DIRECT, 0);
    CHECK(os_preadv(fd, &good, 1, 512) == 512);
    CHECK(os_preadv(fd, &bad, 1, 512) == -EINVAL);
    CHECK(os_preadv(fd, &good, 1, 511) == -EINVAL);
}

static void locks(void *opaque)
{
    int a, b;

    sim_file_create("/l", 4096);
    a = os_open("/l", O_RDWR, 0);
    b = os_open("/l", O_RDWR, 0);
    CHECK(os_lock(a, 100, 10, OS_LOCK_SHARED) == 0);
    CHECK(os_lock(b, 105, 1, OS_LOCK_SHARED) == 0);
    CHECK(os_lock(b, 105, 1, OS_LOCK_EXCLUSIVE) == -EAGAIN);
    CHECK(os_unlock(a, 104, 2) == 0); /* leaves [100, 104) and [106, 110) */
    CHECK(os_lock(b, 104, 2, OS_LOCK_EXCLUSIVE) == 0);
    CHECK(os_lock(b, 103, 1, OS_LOCK_EXCLUSIVE) == -EAGAIN);
    CHECK(os_lock_test(b, 106, 0, OS_LOCK_EXCLUSIVE) == -EAGAIN);
    CHECK(os_lock_test(a, 105, 1, OS_LOCK_SHARED) == -EAGAIN);
    CHECK(os_close(b) == 0);
    CHECK(os_lock_test(a, 0, 0, OS_LOCK_EXCLUSIVE) == 0);
}

static ssize_t send_all(int fd, const char *text, const int *fds, int count)
{
    size_t done = 0, bytes = strlen(text);

    while (done < bytes) {
        struct iovec iov = {(void *)(uintptr_t)(text + done), bytes - done};
        ssize_t sent = os_send(fd, &iov, 1, fds, count);

        if (sent < 0) {
            return sent;
        }
        done += (size_t)sent;
        count = 0;
    }
    return (ssize_t)done;
}

static void sockets(void *opaque)
{
    int listener = os_listen_unix("/s", 1), client, server, fds[OS_SOCKET_FDS_MAX], count = 0;
    char text[64];

    CHECK(os_listen_unix("/s", 1) == -EADDRINUSE);
    CHECK(os_accept(listener) == -EAGAIN);
    client = os_connect_unix("/s");
    CHECK(sim_wait_fd(listener, POLLIN, 0));
    server = os_accept(listener);
    CHECK(os_fd_is_socket(server) && !sim_wait_fd(server, POLLIN, 1000));
    CHECK(os_receive(server, text, sizeof(text), fds, &count) == -EAGAIN);
    CHECK(send_all(client, "hello", NULL, 0) == 5);
    CHECK(os_receive(server, text, sizeof(text), fds, &count) > 0 && count == 0);
    CHECK(os_close_now(client) == 0);
    while (os_receive(server, text, sizeof(text), fds, &count) > 0) {
    }
    CHECK(os_receive(server, text, sizeof(text), fds, &count) == 0);
    CHECK(send_all(server, "x", NULL, 0) == -EPIPE);
    CHECK(os_close_now(listener) == 0);
    CHECK(os_connect_unix("/s") == -ECONNREFUSED && os_connect_unix("/none") == -ENOENT);
    CHECK(os_listen_unix("/s", 1) >= 0); /* stale: replaced */
}

static void descriptors_travel(void *opaque)
{
    int pair[2], many[40], got[OS_SOCKET_FDS_MAX], count = 0, event = os_eventfd();
    char text[8];
    unsigned before;

    CHECK(os_socketpair(pair) == 0);
    before = os_fd_count();
    CHECK(send_all(pair[0], "x", &event, 1) == 1);
    CHECK(os_close_now(event) == 0);
    CHECK(os_receive(pair[1], text, 1, got, &count) == 1 && count == 1);
    os_eventfd_signal(got[0]); /* the same object, whatever its number */
    CHECK(os_eventfd_clear(got[0]));
    CHECK(os_fd_count() == before);
    for (int i = 0; i < 40; i++) {
        many[i] = got[0];
    }
    CHECK(send_all(pair[0], "y", many, 40) == 1);
    CHECK(os_receive(pair[1], text, 1, got, &count) == 1 && count == 40);
    CHECK(os_fd_count() == before + OS_SOCKET_FDS_MAX);
}

static void shared_memory(void *opaque)
{
    void *a, *b;
    uint32_t broken = 0;
    int fd = os_memfd("m", 8192), slot;

    CHECK(os_map_shared(fd, 0, 8192, &a) == 0 && os_map_shared(fd, 0, 8192, &b) == 0);
    memcpy(a, "seen", 5);
    CHECK(strcmp(b, "seen") == 0);
    slot = os_guard_add(&(struct os_guard){b, 8192, &broken});
    CHECK(os_ftruncate(fd, 0) == 0);
    CHECK(*(volatile char *)b == 0 && broken == 1);
    os_guard_remove(slot);
    os_unmap(a, 8192);
    os_unmap(b, 8192);
}

HOME_LOOP
static void rings(void *opaque)
{
    const char *text;
    struct os_ring *ring = os_ring_new(4, &text, NULL);
    struct os_ring_event event;
    uint64_t value = 0, before = os_now_monotonic_ns();
    int fd = os_eventfd();

    CHECK(os_ring_read(ring, fd, &value, sizeof(value), 1));
    CHECK(os_ring_enter(ring, 0, 0) == 0 && !os_ring_has_events(ring));
    CHECK(os_ring_enter(ring, 1, 5000) == -ETIME && os_now_monotonic_ns() == before + 5000);
    os_eventfd_signal(fd);
    CHECK(os_ring_has_events(ring) && os_ring_reap(ring, &event, 1) == 0); /* made by enter */
    CHECK(os_ring_enter(ring, 1, UINT64_MAX) == 0 && os_ring_reap(ring, &event, 1) == 1);
    CHECK(event.user == 1 && event.result == 8 && value == 1);
    CHECK(os_ring_poll(ring, fd, POLLIN, 2) && os_ring_cancel(ring, 2, 3) &&
          os_ring_cancel(ring, 2, 4) && os_ring_fdatasync(ring, fd, 5));
    CHECK(!os_ring_poll(ring, fd, POLLIN, 6)); /* full */
    CHECK(os_ring_enter(ring, 4, UINT64_MAX) == 0);
    while (os_ring_reap(ring, &event, 1) == 1) {
        CHECK(event.user != 2 || event.result == -ECANCELED);
        CHECK(event.user != 3 || event.result == 0);
        CHECK(event.user != 4 || event.result == -ENOENT);
        CHECK(event.user != 5 || event.result == -EBADF); /* not a file */
    }
    os_ring_free(ring);
}

HOME_LOOP
static void epoll_sets(void *opaque)
{
    int set = os_epoll_new(), fd = os_eventfd(), again;
    struct os_epoll_event events[2];

    CHECK(os_epoll_set(set, fd, POLLIN, 7, true) == 0);
    CHECK(os_epoll_set(set, fd, POLLIN, 7, true) == -EEXIST);
    CHECK(os_epoll_wait(set, events, 2, 1000) == 0);
    os_eventfd_signal(fd);
    CHECK(os_epoll_wait(set, events, 2, UINT64_MAX) == 1 && events[0].user == 7);
    CHECK(os_close_now(fd) == 0);
    again = os_eventfd(); /* the same number, another object */
    CHECK(again == fd);
    os_eventfd_signal(again);
    CHECK(os_epoll_wait(set, events, 2, 0) == 0);
    CHECK(os_epoll_remove(set, again) == -ENOENT);
}

/* ---- threads, time, RCU ---- */

static struct os_mutex mutex = OS_MUTEX_INIT;
static struct os_cond cond = OS_COND_INIT;
static int turns;

static void take_turns(void *opaque)
{
    os_tls_set(OS_TLS_CO, opaque);
    for (int i = 0; i < 10; i++) {
        os_mutex_lock(&mutex);
        while (turns % 2 != (int)(intptr_t)opaque) {
            os_cond_wait(&cond, &mutex);
        }
        turns++;
        os_cond_broadcast(&cond);
        os_mutex_unlock(&mutex);
        CHECK(os_tls_get(OS_TLS_CO) == opaque);
    }
}

static void threads(void *opaque)
{
    struct os_thread *a = os_thread_start("a", take_turns, (void *)0),
                     *b = os_thread_start("b", take_turns, (void *)1);
    uint64_t before;

    os_thread_join(a);
    os_thread_join(b);
    CHECK(turns == 20);
    before = os_now_monotonic_ns();
    os_mutex_lock(&mutex);
    CHECK(!os_cond_wait_for(&cond, &mutex, 3600ull * 1000000000)); /* an hour, at once */
    os_mutex_unlock(&mutex);
    CHECK(os_now_monotonic_ns() == before + 3600ull * 1000000000);
    while (os_now_monotonic_ns() < before + 3601ull * 1000000000) {
        sim_sleep(1000000);
    }
    for (before = os_now_monotonic_ns(); os_now_monotonic_ns() < before + 100000;) {
        /* a spinning thread gets on, too */
    }
}

static bool reader_is_in, is_freed;

static void reader(void *opaque)
{
    rcu_thread_register();
    rcu_read_enter();
    reader_is_in = true;
    sim_sleep(50000000);
    CHECK(!is_freed);
    rcu_read_leave();
    rcu_thread_unregister();
}

static void free_it(struct rcu_node *node)
{
    is_freed = true;
}

static bool is_in(void *opaque)
{
    return reader_is_in;
}

static void read_copy_update(void *opaque)
{
    static struct rcu_node node;
    struct os_thread *thread = os_thread_start("reader", reader, NULL);

    rcu_thread_register();
    sim_wait(is_in, NULL, UINT64_MAX, "reader");
    rcu_call(&node, free_it);
    rcu_barrier_wait();
    CHECK(is_freed);
    os_thread_join(thread);
    rcu_thread_unregister();
}

static void signals(void *opaque)
{
    static const int set[] = {SIGTERM, SIGINT};
    int fd = os_signal_fd(set, 2);

    CHECK(!sim_wait_fd(fd, POLLIN, 1000) && os_signal_next(fd) == 0);
    sim_signal(SIGINT);
    CHECK(sim_wait_fd(fd, POLLIN, 0) && os_signal_next(fd) == SIGINT);
    CHECK(os_signal_next(fd) == 0);
}

static void pid_files(void *opaque)
{
    struct err *error = NULL;

    CHECK(os_pidfile_write("/pid", NULL) == 0);
    CHECK(os_pidfile_write("/pid", &error) == -EAGAIN);
    err_free(error);
}

/* ---- faults; and runs that must end badly ---- */

static void third_open_fails(void *opaque)
{
    sim_file_create("/f", 0);
    CHECK(os_open("/f", O_RDWR, 0) >= 0 && os_eventfd() >= 0 && os_open("/f", O_RDWR, 0) >= 0);
    CHECK(os_open("/f", O_RDWR, 0) == -EMFILE);
    CHECK(os_open("/f", O_RDWR, 0) >= 0);
    CHECK(sim_faults_injected() == 1);
}

static void short_transfers(void *opaque)
{
    char block[4096];
    struct iovec iov = {block, sizeof(block)};

    sim_file_create("/f", 1 << 20);
    CHECK(os_preadv(os_open("/f", O_RDWR, 0), &iov, 1, 0) == 2048);
}

static void deadlock(void *opaque)
{
    os_mutex_lock(&mutex);
    sim_wait_fd(os_eventfd(), POLLIN, UINT64_MAX);
}

static void recursive_lock(void *opaque)
{
    os_mutex_lock(&mutex);
    os_mutex_lock(&mutex);
}

static void exit_7(void *opaque)
{
    os_exit(7);
}

static const struct test {
    const char *name;
    void (*fn)(void *opaque);
    struct sim_faults faults;
    int status;
} tests[] = {
    {"files", files},
    {"direct I/O", direct_io},
    {"locks", locks},
    {"sockets", sockets},
    {"descriptors travel", descriptors_travel},
    {"shared memory", shared_memory},
    {"rings", rings},
    {"epoll sets", epoll_sets},
    {"threads", threads},
    {"read-copy-update", read_copy_update},
    {"signals", signals},
    {"pid files", pid_files},
    {"third open fails", third_open_fails, {.only = "open", .nth = 3}},
    {"short transfers", short_transfers, {.only = "short-*", .per_million = 1000000}},
    {"deadlock is told", deadlock, .status = 1000 + SIGABRT},
    {"recursive lock is told", recursive_lock, .status = 1000 + SIGABRT},
    {"exit status", exit_7, .status = 7},
};

int main(void)
{
    unsigned failed = 0;

    for (size_t i = 0; i < countof(tests); i++) {
        int status = tests[i].status;

        for (uint64_t seed = 0; seed < 20 && status == tests[i].status; seed++) {
            const struct sim_config config = {.seed = seed, .faults = tests[i].faults};

            status = sim_run_forked(&config, tests[i].fn, NULL, tests[i].status != 0).status;
            if (status != tests[i].status) {
                printf("%s: seed %d: status %d\n", tests[i].name, (int)seed, status);
                failed++;
            }
        }
    }
    printf("%zu passed, %u failed, 0 skipped\n", countof(tests) - failed, failed);
    return failed != 0;
}
