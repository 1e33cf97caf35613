/* sim_int.h -- shared by the files of sim/. */
#pragma once
#include "sim/sim.h"
#include "base/list.h"
#include <sys/types.h>
#include <sys/uio.h>

CTX_ANY_BEGIN

/* ---- sched.c ---- */

enum { SIM_TASKS_MAX = 192 };

unsigned sim_task_self(void); /* 0 … SIM_TASKS_MAX - 1 */
unsigned sim_task_spawn(const char *name, void (*fn)(void *opaque), void *opaque);
bool sim_task_is_done(unsigned task);

uint64_t sim_now(void);
/* A switch point: another task may go on first. */
void sim_step(const char *what);
/* As sim_wait(), until a point in time. */
bool sim_wait_until(bool (*is_true)(void *opaque), void *opaque, uint64_t deadline,
                    const char *what);
/* What happened becomes part of the trace. No addresses, no real time. */
void sim_trace(const char *what, uint64_t value);
uint64_t sim_below(uint64_t limit); /* a random number in [0, @limit) */
/* How long something takes: mostly short, now and then long. */
uint64_t sim_latency(void);
no_return void sim_exit(int status);

/* Does the call @name fail now? -@errnum or 0. */
int sim_fault(const char *name, int errnum);

/* ---- fd.c: what a descriptor stands for ---- */

struct sim_desc;
struct sim_desc_ops {
    unsigned (*poll)(struct sim_desc *desc); /* POLLIN … */
    ssize_t (*read)(struct sim_desc *desc, void *to, size_t bytes);    /* -EAGAIN: nothing now */
    ssize_t (*write)(struct sim_desc *desc, const void *from, size_t bytes);
    void (*close)(struct sim_desc *desc); /* the last descriptor has gone: free it */
    unsigned mode;                        /* S_IFSOCK … */
};
struct sim_desc {
    const struct sim_desc_ops *ops;
    unsigned refs;
    bool nonblocking;
    uint64_t serial; /* never used twice in a run, unlike its address */
};
void sim_desc_init(struct sim_desc *desc, const struct sim_desc_ops *ops);
void sim_desc_ref(struct sim_desc *desc);
void sim_desc_unref(struct sim_desc *desc);
int sim_fd_install(struct sim_desc *desc); /* takes over the reference, also on failure */
struct sim_desc *sim_fd_get(int fd);       /* borrowed; NULL: none such */
unsigned sim_desc_poll(struct sim_desc *desc, unsigned wanted);
void sim_fd_reset(void);

/* ---- file.c ---- */

void sim_file_reset(void);
/* The real descriptor behind a simulated regular file, or -EBADF. */
int sim_file_real(int fd);
/* Done at once; the caller has dealt with time and faults. */
ssize_t sim_file_transfer(int fd, const struct iovec *iov, int count, uint64_t offset,
                          bool is_write);

/* ---- socket.c, process.c, rcu.c ---- */

void sim_socket_reset(void);
bool sim_socket_remove(const char *path); /* its file; false: none such */
bool sim_socket_exists(const char *path);
void sim_process_reset(void);
void sim_rcu_reset(void);

CTX_ANY_END
