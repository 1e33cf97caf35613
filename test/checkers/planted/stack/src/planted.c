/* planted.c -- a stack that is too deep, recursion, and a frame of variable size. */
#include "base/ctx.h"

struct blk_driver {
    CO_SLOT int (*co_go)(int depth, char *buffer);
};

static const struct blk_driver *next;
void use(char *buffer);

CO_FN
static int filter_go(int depth, char *buffer) TSA_(no_thread_safety_analysis);
static int filter_go(int depth, char *buffer)
{
    char frame[5000];
    use(frame);
    return next->co_go(depth - 1, frame) + frame[0];
}

CO_FN
static int leaf_go(int depth, char *buffer)
{
    char frame[1000];
    use(frame);
    return frame[depth];
}

static const struct blk_driver filter = {.co_go = filter_go};
static const struct blk_driver leaf = {.co_go = leaf_go};

CO_FN
int start(int depth, char *buffer) TSA_(no_thread_safety_analysis);
int start(int depth, char *buffer)
{
    next = depth ? &filter : &leaf;
    return next->co_go(depth, buffer);
}

CO_FN
int around(int depth);
CO_FN
int about(int depth)
{
    return around(depth - 1) + 1;
}
__attribute__((noinline)) int around(int depth)
{
    return depth ? about(depth) * 2 : 0;
}

CO_FN
int variable(int bytes)
{
    char frame[bytes];
    use(frame);
    return frame[0];
}
