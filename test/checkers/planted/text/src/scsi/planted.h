/* planted.h -- each line that says so must be reported, and no other. */
#pragma once
#include "base/ctx.h"

struct thing;
typedef struct thing thing_t; // expect: typedef
typedef void thing_fn(void *opaque);

ANY_THREAD
int thing_labelled(struct thing *thing);
int thing_bare(struct thing *thing); // expect: label: thing_bare
MAIN_LOOP CO_FN
void thing_split(struct thing *thing,
                 const char *name);
GRAPH_RD
void thing_graph_only(void); // expect-above: label: thing_graph_only

static inline int thing_inline(void) // expect: label: thing_inline
{
    return 1;
}

CTX_ANY_BEGIN
int thing_bracketed(void);
static inline int thing_bracketed_inline(void)
{
    return 2;
}
CTX_ANY_END
int thing_after(void); // expect: label: thing_after

struct thing_ops {
    CO_SLOT int (*co_go)(struct thing *thing);
    int (*bare)(struct thing *thing); // expect: label: bare
    struct {
        ANY_SLOT void (*inner)(void);
        void (*inner_bare)(void); // expect: label: inner_bare
    } nested;
};

static inline __attribute__((always_inline)) ANY_THREAD int thing_attributed(void)
{
    return 3;
}
