/* fork.h -- one simulated run in a process of its own, so that each begins as new. */
#pragma once
#include "base/ctx.h"
#include "sim/sim.h"

CTX_ANY_BEGIN

struct sim_result {
    uint64_t trace_hash;
    unsigned steps, faults;
    int status;    /* of the run; 1000 + signal: killed by it */
};

/* Its standard error goes to /dev/null if @quiet. */
struct sim_result sim_run_forked(const struct sim_config *config, void (*fn)(void *opaque),
                                 void *opaque, bool quiet);

CTX_ANY_END
