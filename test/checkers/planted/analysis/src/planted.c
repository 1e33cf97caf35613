/* planted.c -- what clang's -Wthread-safety must report in our labels. */
#include "base/ctx.h"

MAIN_LOOP
void main_fn(void);
CO_FN
void co_fn(void);
BLOCKING
void blocking_fn(void);
CO_FN GRAPH_RD
void read_fn(void);
GRAPH_NONE
void none_fn(void);
ANY_THREAD
int try_token(void) TRY_ACQUIRES_SHARED(1, graph);
ANY_THREAD
void drop_token(void) RELEASES_SHARED(graph);
struct slots {
    CO_SLOT void (*co_go)(void);
};

CO_FN
void co_caller(void)
{
    co_fn();
    main_fn();     // expect: requires holding role 'ctx_main'
    blocking_fn(); // expect: cannot call function 'blocking_fn' while role 'ctx_co' is held
    read_fn();     // expect: requires holding rwlock 'graph'
}

CO_FN GRAPH_RD
void reader(void)
{
    read_fn();
    none_fn(); // expect: cannot call function 'none_fn' while rwlock 'graph' is held
}

ANY_THREAD
void any_caller(struct slots *slots)
{
    slots->co_go(); // expect: reading variable 'co_go' requires holding role 'ctx_co'
}

CO_FN
void leaks_a_token(int early)
{
    if (!try_token()) {
        return;
    }
    read_fn();
    if (early) {
        return;
    }
    drop_token();
} // expect: rwlock 'graph' is not held on every path through here
