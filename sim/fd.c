/*
 * fd.c -- simulated descriptors. Numbers begin at FIRST_FD, so that none is taken for a real one;
 * 0, 1 and 2 are the process's own.
 */
#include "base/mem.h"
#include "os/file.h"
#include "os/socket.h"
#include "sim/sim_int.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_FD = 3, FDS_MAX = 4096 };
static struct sim_desc *table[FDS_MAX];
static uint64_t serials;

void sim_desc_init(struct sim_desc *desc, const struct sim_desc_ops *ops)
{
    desc->ops = ops;
    desc->refs = 1;
    desc->nonblocking = false;
    desc->serial = ++serials;
}

void sim_desc_ref(struct sim_desc *desc)
{
    desc->refs++;
}

void sim_desc_unref(struct sim_desc *desc)
{
    if (--desc->refs == 0) {
        desc->ops->close(desc);
    }
}

int sim_fd_install(struct sim_desc *desc)
{
    for (int i = 0; i < FDS_MAX; i++) {
        if (table[i] == NULL) {
            table[i] = desc;
            return FIRST_FD + i;
        }
    }
    sim_desc_unref(desc);
    return -EMFILE;
}

struct sim_desc *sim_fd_get(int fd)
{
    return fd >= FIRST_FD && fd < FIRST_FD + FDS_MAX ? table[fd - FIRST_FD] : NULL;
}

unsigned sim_desc_poll(struct sim_desc *desc, unsigned wanted)
{
    return desc->ops->poll(desc) & (wanted | POLLERR | POLLHUP);
}

void sim_fd_reset(void)
{
    for (int i = 0; i < FDS_MAX; i++) {
        if (table[i] != NULL) {
            sim_desc_unref(take(&table[i]));
        }
    }
}

/* ---- what os/file.h and os/socket.h say about any descriptor ---- */

int os_close_now(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);

    if (desc == NULL) {
        return -EBADF;
    }
    table[fd - FIRST_FD] = NULL;
    sim_desc_unref(desc);
    sim_step("close");
    return 0;
}

int os_close(int fd)
{
    sim_sleep(sim_latency());
    return os_close_now(fd);
}

int os_dup(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);
    int fault = sim_fault("dup", EMFILE);

    if (desc == NULL || fault < 0) {
        return desc == NULL ? -EBADF : fault;
    }
    sim_desc_ref(desc);
    return sim_fd_install(desc);
}

unsigned os_fd_count(void)
{
    unsigned count = 0;

    for (int i = 0; i < FDS_MAX; i++) {
        count += table[i] != NULL;
    }
    return count;
}

struct wanted {
    struct sim_desc *desc;
    unsigned events;
};

static bool is_ready(void *opaque)
{
    const struct wanted *wanted = opaque;

    return sim_desc_poll(wanted->desc, wanted->events) != 0;
}

bool sim_wait_fd(int fd, unsigned poll_events, uint64_t timeout_ns)
{
    struct wanted wanted = {sim_fd_get(fd), poll_events};

    return wanted.desc != NULL && sim_wait(is_ready, &wanted, timeout_ns, "wait-fd");
}

int os_fd_wait(int fd, unsigned events, uint64_t timeout_ns)
{
    struct sim_desc *desc = sim_fd_get(fd);

    if (desc == NULL) {
        return POLLNVAL;
    }
    return sim_wait_fd(fd, events, timeout_ns) ? (int)sim_desc_poll(desc, events) : 0;
}

ssize_t os_read(int fd, void *to, size_t bytes)
{
    struct sim_desc *desc = sim_fd_get(fd);
    ssize_t got;

    sim_step("read");
    if (desc == NULL || desc->ops->read == NULL) {
        return -EBADF;
    }
    while ((got = desc->ops->read(desc, to, bytes)) == -EAGAIN && !desc->nonblocking) {
        sim_wait_fd(fd, POLLIN, UINT64_MAX);
    }
    return got;
}

ssize_t os_write(int fd, const void *from, size_t bytes)
{
    struct sim_desc *desc = sim_fd_get(fd);
    ssize_t put;

    if (fd >= 0 && fd < FIRST_FD) {
        put = write(fd, from, bytes);
        return put < 0 ? -errno : put;
    }
    sim_step("write");
    if (desc == NULL || desc->ops->write == NULL) {
        return -EBADF;
    }
    while ((put = desc->ops->write(desc, from, bytes)) == -EAGAIN && !desc->nonblocking) {
        sim_wait_fd(fd, POLLOUT, UINT64_MAX);
    }
    return put;
}

int os_fd_set_nonblocking(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);

    if (desc == NULL) {
        return -EBADF;
    }
    desc->nonblocking = true;
    return 0;
}

/* ---- eventfd ---- */

struct event {
    struct sim_desc desc;
    uint64_t count;
};

static unsigned event_poll(struct sim_desc *desc)
{
    const struct event *event = (const struct event *)desc;

    return (event->count > 0 ? POLLIN : 0) | (event->count < UINT64_MAX - 1 ? POLLOUT : 0);
}

static ssize_t event_read(struct sim_desc *desc, void *to, size_t bytes)
{
    struct event *event = (struct event *)desc;

    if (bytes < sizeof(event->count)) {
        return -EINVAL;
    }
    if (event->count == 0) {
        return -EAGAIN;
    }
    memcpy(to, &event->count, sizeof(event->count));
    event->count = 0;
    return sizeof(event->count);
}

static ssize_t event_write(struct sim_desc *desc, const void *from, size_t bytes)
{
    struct event *event = (struct event *)desc;
    uint64_t value;

    if (bytes < sizeof(value)) {
        return -EINVAL;
    }
    memcpy(&value, from, sizeof(value));
    if (value > UINT64_MAX - 1 - event->count) {
        return -EAGAIN;
    }
    event->count += value;
    return sizeof(value);
}

static void free_desc(struct sim_desc *desc)
{
    mem_free(desc);
}

static const struct sim_desc_ops event_ops = {
    .poll = event_poll,
    .read = event_read,
    .write = event_write,
    .close = free_desc,
};

int os_eventfd(void)
{
    struct event *event;
    int fault = sim_fault("eventfd", EMFILE);

    if (fault < 0) {
        return fault;
    }
    event = mem_new(struct event);
    sim_desc_init(&event->desc, &event_ops);
    return sim_fd_install(&event->desc);
}

bool os_eventfd_signal(int fd)
{
    const uint64_t one = 1;
    struct sim_desc *desc = sim_fd_get(fd);

    if (desc == NULL || desc->ops->write == NULL) {
        panic("sim: write to eventfd %d, which is closed", fd);
    }
    desc->ops->write(desc, &one, sizeof(one));
    sim_step("eventfd-signal");
    return true;
}

bool os_eventfd_clear(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);
    uint64_t count;

    sim_step("eventfd-clear");
    return desc != NULL && desc->ops->read != NULL &&
           desc->ops->read(desc, &count, sizeof(count)) > 0;
}
