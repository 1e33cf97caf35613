/*
 * block.c -- what the block layer adds: a token, a null-co request through root and node, a node more in
 * the chain, a section, and the registry at several sizes.
 *
 *     bench-block [--threads N] ROW      prints the cost of one operation in ns of CPU of the thread
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "block/drain.h"
#include "block/drivers.h"
#include "block/node.h"
#include "block/root.h"
#include "loop/iothread.h"
#include "os/time.h"
#include "sync/asym.h"
#include "sync/atomic.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 1000, TOKENS = 20000000, REQUESTS = 5000000, SECTIONS = 20000, THREADS_MAX = 8 };

static struct blk_root *root;
static unsigned thread_count = 1;
static unsigned running;               /* atomic */
static double cost_ns[THREADS_MAX];

MAIN_LOOP
static const char *user_name(void *opaque)
{
    return "bench";
}
static const struct blk_root_ops ops = {.describe = user_name};

/* ---- graphs -------------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static void add(const char *format, const char *a, const char *b)
{
    struct err *error = NULL;
    char *text = str_format(format, a, b);
    json_t *options;
    unsigned flags;
    bool help;

    if (opt_parse_string(text, "driver", &options, &flags, &help, &error) < 0 ||
        blk_node_co_add(options, flags, &error) < 0) {
        panic("%s: %s", text, error->text);
    }
    json_decref(options);
    mem_free(text);
}
