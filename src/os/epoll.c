/*
 * epoll.c -- the set of descriptors a loop waits on where io_uring is refused.
 */
#include "os/ring.h"
#include "base/macros.h"
#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

int os_epoll_new(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int os_epoll_set(int epoll_fd, int fd, unsigned poll_events, uint64_t user, bool is_new)
{
    struct epoll_event event = {.events = poll_events, .data.u64 = user};

    return epoll_ctl(epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}

int os_epoll_remove(int epoll_fd, int fd)
{
    return epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

/* For kernels before 5.11: milliseconds, rounded up so that a timer is never early. */
static int wait_in_ms(int epoll_fd, struct epoll_event *events, int max, uint64_t timeout_ns)
{
    uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);

    return epoll_wait(epoll_fd, events, max,
                      timeout_ns == UINT64_MAX ? -1 : (int)min_of(ms, (uint64_t)INT_MAX));
}

int os_epoll_wait(int epoll_fd, struct os_epoll_event *to, int max, uint64_t timeout_ns)
{
    enum { BATCH = 64 };
    struct epoll_event events[BATCH];
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                               .tv_nsec = (long)(timeout_ns % 1000000000)};
    int count;

    max = min_of(max, BATCH);
    count = epoll_pwait2(epoll_fd, events, max, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
    if (count < 0 && errno == ENOSYS) {
        count = wait_in_ms(epoll_fd, events, max, timeout_ns);
    }
    if (count < 0) {
        return -errno;
    }
    for (int i = 0; i < count; i++) {
        to[i].user = events[i].data.u64;
        to[i].events = events[i].events;
    }
    return count;
}
