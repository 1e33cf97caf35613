/*
 * root.h -- what a device, export or job holds to do I/O on a graph: a gate, tokens, I/O calls.
 *
 * The theory of counting is in token.h, (T1) to (T4). For users:
 * (T5) Nobody waits at a gate while holding a token: a closed gate is an answer, not a wait.
 * (T6) A coroutine carries its token: raise, or blk_root_assert_token() for one raised elsewhere,
 *      binds the root to it, a drop unbinds, and every I/O call and edge crossing asserts it. Who
 *      drops one of two tokens and goes on under the other says so with blk_root_assert_token().
 * (T7) A root is alive while a token of it is out; who looks one up without a token keeps it alive
 *      by other means (an RCU section and unpublishing before blk_root_co_free()). Dropping needs
 *      none.
 */
#pragma once
#include "block/node.h"

struct blk_root;

/* What the root's user is told. Main loop; none may yield. */
struct blk_root_ops {
    /* "export 'hba0'", "device 'disk0'": for messages. */
    MAIN_SLOT const char *(*describe)(void *opaque);
    /* Optional. A drained section has ended: restart what was parked. Called when the gate has just
     * opened, with one token held for the call; the user raises one more per submitter with
     * blk_root_raise_under() and sends each submitter's restart to its home, which drops it when
     * its batch has entered. The batch enters under that token (raise_under again), so it does not
     * ask a gate that has closed anew. May not change the graph. */
    MAIN_SLOT void (*restart)(void *opaque);
    /* The node's size has changed (all its roots are told, under a token). Optional. */
    MAIN_SLOT void (*resized)(void *opaque);
};

/* A root on @node (a reference is taken), with permissions. -EPERM names the user it conflicts
 * with. */
MAIN_LOOP CO_FN
int blk_root_co_new(struct blk_node *node, unsigned perm, unsigned shared,
                    const struct blk_root_ops *ops, void *opaque, struct blk_root **ret_root,
                    struct err **reterr);

/* Gates, waits for every token, detaches, frees. Cannot fail. Unpublish the root before: (T7). */
MAIN_LOOP CO_FN
void blk_root_co_free(struct blk_root *root);

ANY_THREAD
struct blk_node *blk_root_node(const struct blk_root *root);
ANY_THREAD
uint64_t blk_root_bytes(const struct blk_root *root);

/* ---- tokens ---------------------------------------------------------------------------------- */

/* True: a token is raised and the gate was open. False: park the request; nothing is held. Any
 * thread that runs a loop. */
ANY_THREAD
bool blk_root_raise(struct blk_root *root) TRY_ACQUIRES_SHARED(true, graph);
/* One more, under a token of the same root that the caller holds: the gate is not asked. */
ANY_THREAD
void blk_root_raise_under(struct blk_root *root) ACQUIRES_SHARED(graph);
ANY_THREAD
void blk_root_drop(struct blk_root *root) RELEASES_SHARED(graph);
/* "I hold a token of this root, raised elsewhere": asserted where it can be. */
ANY_THREAD
void blk_root_assert_token(const struct blk_root *root) ASSERTS_SHARED(graph);
/* May be stale as soon as it is read; for parking decisions use blk_root_raise(). */
ANY_THREAD
bool blk_root_is_gated(const struct blk_root *root);

/* ---- I/O, under a token. 0 or -errno; -EIO: out of range (callers check and say so first) ---- */
CO_FN GRAPH_RD
int blk_root_co_preadv(struct blk_root *root, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, unsigned flags);
CO_FN GRAPH_RD
int blk_root_co_pwritev(struct blk_root *root, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, unsigned flags);
CO_FN GRAPH_RD
int blk_root_co_flush(struct blk_root *root);
CO_FN GRAPH_RD
int blk_root_co_discard(struct blk_root *root, uint64_t offset, uint64_t bytes);
CO_FN GRAPH_RD
int blk_root_co_write_zeroes(struct blk_root *root, uint64_t offset, uint64_t bytes,
                             unsigned flags);
CO_FN GRAPH_RD
int blk_root_co_status(struct blk_root *root, uint64_t offset, uint64_t bytes,
                       unsigned *ret_status, uint64_t *ret_bytes);

/* At exit: no root, no node and no other loop is left. */
MAIN_LOOP
void blk_fini(void);
