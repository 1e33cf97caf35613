/*
 * ctx.h -- execution-context labels: what may call what, and from where.
 *
 * Under clang each label is a capability (checked at every direct call by -Wthread-safety) and a
 * note in the IR that tool/ctxcheck.py follows through function tables and unlabelled helpers.
 * Other compilers see nothing. A label stands on its own line in front of a header's prototype, of
 * a static definition, or (as a _SLOT) of a function-pointer member. They add up: MAIN_LOOP CO_FN.
 *
 *   ANY_THREAD  any thread; neither yields nor blocks
 *   HOME_LOOP   on the thread of the loop that owns the object
 *   MAIN_LOOP   on the main loop's thread
 *   CO_FN       inside a coroutine; may yield, so state read before may be stale after
 *   BLOCKING    may sleep in the kernel: worker pool or start-up only
 *   GRAPH_RD    the caller holds a token of a root above (shared)
 *   GRAPH_WR    the caller has drained the upper end of what it changes (exclusive)
 *   GRAPH_NONE  must hold neither
 */
#pragma once

#if defined(__clang__)
#define TSA_(x) __attribute__((x))
#define NOTE_(s) __attribute__((annotate(s)))
#else
#define TSA_(x)
#define NOTE_(s)
#endif

struct TSA_(capability("role")) ctx_role {
    char unused;
};
struct TSA_(capability("rwlock")) graph_cap {
    char unused;
};
extern struct ctx_role ctx_main; /* held by the main loop's thread */
extern struct ctx_role ctx_home; /* held by the thread of the object's loop */
extern struct ctx_role ctx_co;   /* held while running on a coroutine */
extern struct graph_cap graph;   /* the block graph */

#define ANY_THREAD NOTE_("ctx:any")
#define HOME_LOOP TSA_(requires_capability(ctx_home)) NOTE_("ctx:home")
#define MAIN_LOOP TSA_(requires_capability(ctx_main)) NOTE_("ctx:main")
#define CO_FN TSA_(requires_capability(ctx_co)) NOTE_("ctx:co")
#define BLOCKING TSA_(locks_excluded(ctx_co)) NOTE_("ctx:blocking")
#define GRAPH_RD TSA_(requires_shared_capability(graph)) NOTE_("graph:rd")
#define GRAPH_WR TSA_(requires_capability(graph)) NOTE_("graph:wr")
#define GRAPH_NONE TSA_(locks_excluded(graph)) NOTE_("graph:none")

#define CO_SLOT TSA_(guarded_by(ctx_co)) NOTE_("ctx:co")
#define HOME_SLOT TSA_(guarded_by(ctx_home)) NOTE_("ctx:home")
#define MAIN_SLOT TSA_(guarded_by(ctx_main)) NOTE_("ctx:main")
#define ANY_SLOT NOTE_("ctx:any")
#define BLOCKING_SLOT NOTE_("ctx:blocking")
#define RD_SLOT TSA_(guarded_by(graph))

#define GUARDED_BY(...) TSA_(guarded_by(__VA_ARGS__))
#define ACQUIRES(...) TSA_(acquire_capability(__VA_ARGS__))
#define RELEASES(...) TSA_(release_capability(__VA_ARGS__))
#define TRY_ACQUIRES_SHARED(...) TSA_(try_acquire_shared_capability(__VA_ARGS__))
#define ACQUIRES_SHARED(...) TSA_(acquire_shared_capability(__VA_ARGS__))
#define RELEASES_SHARED(...) TSA_(release_shared_capability(__VA_ARGS__))

/* "Believe me from here on": each use of these is backed by a run-time assert of the same name. */
#define ASSERTS(...) TSA_(assert_capability(__VA_ARGS__))
#define ASSERTS_SHARED(...) TSA_(assert_shared_capability(__VA_ARGS__))

/* For headers in which every function is ANY_THREAD: a bracket instead of a label each. */
#if defined(__clang__)
#define CTX_ANY_BEGIN                                                                              \
    _Pragma("clang attribute push(__attribute__((annotate(\"ctx:any\"))), apply_to = function)")
#define CTX_ANY_END _Pragma("clang attribute pop")
#else
#define CTX_ANY_BEGIN
#define CTX_ANY_END
#endif

/* No analysis inside this function. Only where tool/allow.txt names it, with the reason. */
#define TSA_TRUST TSA_(no_thread_safety_analysis)
