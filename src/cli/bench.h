/* bench.h -- `caisson bench`: a driver of our own as load for any vhost-user back end. */
#pragma once
#include "base/ctx.h"

enum bench_exit {
    BENCH_OK = 0,
    BENCH_FAILED = 1, /* the back end refused something, an I/O failed, a block was wrong */
    BENCH_USAGE = 2,
    BENCH_NO_CONNECTION = 3,
};

/* @argv[0] is "bench". The exit status is returned. */
BLOCKING
int cli_bench_main(int argc, char **argv);
