#include "sim/test/fork.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static no_return void run_child(const struct sim_config *config, void (*fn)(void *opaque),
                                void *opaque, bool quiet, int to)
{
    struct sim_result result;

    if (quiet) {
        dup2(open("/dev/null", O_WRONLY), 2);
    }
    result.status = sim_run(config, fn, opaque);
    result.trace_hash = sim_trace_hash();
    result.steps = sim_steps();
    result.faults = sim_faults_injected();
    fflush(NULL);
    _exit(write(to, &result, sizeof(result)) == sizeof(result) ? 0 : 1);
}

struct sim_result sim_run_forked(const struct sim_config *config, void (*fn)(void *opaque),
                                 void *opaque, bool quiet)
{
    struct sim_result result = {0};
    int fds[2], status;
    pid_t child;

    fflush(NULL);
    if (pipe(fds) < 0 || (child = fork()) < 0) {
        panic("no process for a simulated run");
    }
    if (child == 0) {
        close(fds[0]);
        run_child(config, fn, opaque, quiet, fds[1]);
    }
    close(fds[1]);
    if (read(fds[0], &result, sizeof(result)) != sizeof(result)) {
        result.status = 1;
    }
    close(fds[0]);
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
        result.status = 1000 + WTERMSIG(status);
    }
    return result;
}
