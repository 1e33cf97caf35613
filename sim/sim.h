/*
 * sim.h -- the simulated platform, as a test drives it.
 *
 * Linked with sim/ instead of os/ (and of the RCU facade), the program runs in one thread: its
 * threads are tasks that give way only inside os/ calls, a generator seeded by the caller chooses
 * which goes on, time is virtual and moves only when every task waits, files and sockets are in
 * memory, and faults are injected. The same seed gives the same trace, whose hash is the proof.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"

CTX_ANY_BEGIN

struct sim_faults {
    const char *only;     /* a glob over the names of calls ("preadv", "ring-*"); NULL: all */
    uint64_t nth;         /* the n-th such call fails; 0: none */
    unsigned per_million; /* of such calls, by chance */
};

struct sim_config {
    uint64_t seed;
    struct sim_faults faults;
};

/* Run @fn as the first task, and whatever it starts, until it has ended and with it every task of
 * sim_task_start(). Returns what os_exit() was given, or 0. Panics, telling what each task waits
 * for,
 * when nobody can go on. */
int sim_run(const struct sim_config *config, void (*fn)(void *opaque), void *opaque);

/* One more task that the run waits for: a client beside the program, which no fault meets. */
void sim_task_start(const char *name, void (*fn)(void *opaque), void *opaque);

uint64_t sim_trace_hash(void); /* of all decisions and completions of this run so far */
uint64_t sim_random(void);     /* the seeded generator; part of the trace's determinism */
unsigned sim_steps(void);
unsigned sim_faults_injected(void);
void sim_set_faults(const struct sim_faults *faults); /* from now on; counting starts anew */

/* Wait, as a thread would. False: @timeout_ns (UINT64_MAX: none) has passed. */
bool sim_wait(bool (*is_true)(void *opaque), void *opaque, uint64_t timeout_ns, const char *what);
void sim_sleep(uint64_t ns);
bool sim_wait_fd(int fd, unsigned poll_events, uint64_t timeout_ns);

/* A file there is before the program starts. */
void sim_file_create(const char *path, uint64_t bytes);
/* Look at a file's content past all locks; short when the file is. */
size_t sim_file_peek(const char *path, uint64_t offset, void *to, size_t bytes);

/* Send the program a signal. */
void sim_signal(int signal_number);

CTX_ANY_END
