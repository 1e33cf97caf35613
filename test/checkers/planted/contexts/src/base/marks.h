/* marks.h -- functions of each context, for the planted violations. */
#pragma once
#include "base/ctx.h"

ANY_THREAD
void any_fn(void);
HOME_LOOP
void home_fn(void);
MAIN_LOOP
void main_fn(void);
CO_FN
void co_fn(void);
BLOCKING
void blocking_fn(void);
CO_FN GRAPH_NONE
void co_none_fn(void);
ANY_THREAD
void assert_main(void) ASSERTS(ctx_main);

typedef void callback(void *opaque);
ANY_THREAD
void call_now(callback *fn, void *opaque);
struct registry {
    HOME_SLOT callback *fn;
    void *opaque;
};
ANY_THREAD
void register_home(struct registry *registry, callback *fn, void *opaque);
void helper_of_others(void);
