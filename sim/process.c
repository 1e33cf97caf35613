/* process.c -- os/process.h: signals are what sim_signal() sends; there is one process, number
 * 4242. */
#include "os/process.h"
#include "base/mem.h"
#include "os/file.h"
#include "sim/sim_int.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { SIM_PID = 4242 };

static uint64_t pending, ignored;

struct signal_desc {
    struct sim_desc desc;
    uint64_t set;
};

void sim_process_reset(void)
{
    pending = ignored = 0;
}

void sim_signal(int signal_number)
{
    pending |= (uint64_t)1 << signal_number & ~ignored;
    sim_trace("signal", (uint64_t)signal_number);
}

static unsigned signal_poll(struct sim_desc *desc)
{
    return (pending & ((const struct signal_desc *)desc)->set) != 0 ? POLLIN : 0;
}

static void signal_close(struct sim_desc *desc)
{
    mem_free(desc);
}

static const struct sim_desc_ops signal_ops = {.poll = signal_poll, .close = signal_close};

int os_signal_fd(const int *signals, size_t count)
{
    struct signal_desc *desc = mem_new(struct signal_desc);

    sim_desc_init(&desc->desc, &signal_ops);
    for (size_t i = 0; i < count; i++) {
        desc->set |= (uint64_t)1 << signals[i];
    }
    return sim_fd_install(&desc->desc);
}

int os_signal_next(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);

    sim_step("signal-next");
    if (desc == NULL || desc->ops != &signal_ops) {
        return 0;
    }
    for (int number = 1; number < 64; number++) {
        if (pending & ((const struct signal_desc *)desc)->set & (uint64_t)1 << number) {
            pending &= ~((uint64_t)1 << number);
            return number;
        }
    }
    return 0;
}

void os_signal_ignore(int signal_number)
{
    ignored |= (uint64_t)1 << signal_number;
}

void os_signal_unblock_all(void)
{
}

int os_pidfile_write(const char *path, struct err **reterr)
{
    int fd = os_open(path, O_RDWR | O_CREAT, 0644), rc;
    char text[16];

    if (fd < 0) {
        return err_set_errno(reterr, -fd, "pid file '%s': cannot be opened", path);
    }
    rc = os_lock(fd, 0, 0, OS_LOCK_EXCLUSIVE);
    if (rc < 0) {
        os_close(fd);
        return err_set(reterr, -rc, "pid file '%s': is locked by another process", path);
    }
    snprintf(text, sizeof(text), "%d\n", SIM_PID);
    os_write(fd, text, strlen(text));
    return 0;
}

int os_daemonize_begin(struct err **reterr)
{
    return 0;
}

void os_daemonize_ready(int status)
{
}

pid_t os_pid(void)
{
    return SIM_PID;
}

uint64_t os_process_rss_anon_bytes(void)
{
    return 8 << 20;
}

void os_raise_fd_limit(void)
{
}

void os_exit(int status)
{
    sim_exit(status);
}
