/*
 * root.c -- what a device, export or job holds to do I/O on a graph.
 *
 * A root is an edge without an upper node, with a gate and tokens (token.h). Token blocks are
 * recycled and given back only by blk_fini(): that is what makes a drop safe without an RCU section
 * (T4).
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/graph_int.h"
#include "block/root_int.h"

/* ---- token blocks ---------------------------------------------------------------------------- */

static struct list free_blocks = LIST_INIT(free_blocks); /* main loop */

ANY_THREAD
static void kick_main(struct blk_tokens *tokens)
{
    bh_schedule(tokens->kick_bh);
}

MAIN_LOOP
static void kicked(void *opaque)
{
    struct blk_tokens *tokens = opaque;

    if (tokens->owner != NULL) {
        blk_root_look(tokens->owner);
    }
}

static struct blk_tokens *tokens_get(struct blk_root *owner)
{
    struct list *item = list_pop_head(&free_blocks);
    struct blk_tokens *tokens;

    if (item != NULL) {
        tokens = list_entry(item, struct blk_tokens, link);
    } else {
        tokens = mem_try_alloc_aligned(_Alignof(struct blk_tokens), sizeof(*tokens));
        if (tokens == NULL) {
            panic("out of memory (%zu bytes)", sizeof(*tokens));
        }
        tokens->kick = kick_main;
        tokens->kick_bh = bh_new(loop_main(), kicked, tokens, "blk-token-kick");
        list_init(&tokens->link);
    }
    blk_tokens_gate_open(tokens);
    tokens->owner = owner;
    return tokens;
}

/* Sums are equal now and stay equal for the next owner. The gate stays closed. */
static void tokens_put(struct blk_tokens *tokens)
{
    assert(blk_tokens_are_idle(tokens));
    tokens->owner = NULL;
    list_add_head(&free_blocks, &tokens->link);
}

void blk_fini(void)
{
    struct list *item;

    while ((item = list_pop_head(&free_blocks)) != NULL) {
        struct blk_tokens *tokens = list_entry(item, struct blk_tokens, link);

        bh_delete(tokens->kick_bh);
        mem_free(tokens);
    }
}

/* ---- roots ----------------------------------------------------------------------------------- */

int blk_root_co_new(struct blk_node *node, unsigned perm, unsigned shared,
                    const struct blk_root_ops *ops, void *opaque, struct blk_root **ret_root,
                    struct err **reterr)
{
    struct blk_root *root = mem_new(struct blk_root);
    int rc;

    root->ops = ops;
    root->opaque = opaque;
    root->edge.root = root;
    root->tokens = tokens_get(root);
    list_init(&root->edge.in_parents);
    list_init(&root->waits);
    list_init(&root->work);
    rc = blk_edge_co_attach(&root->edge, node, perm, shared, reterr);
    if (rc < 0) {
        tokens_put(root->tokens);
        mem_free(root);
        return rc;
    }
    *ret_root = root;
    return 0;
}

void blk_root_co_free(struct blk_root *root)
{
    struct blk_node *node;

    if (root == NULL) {
        return;
    }
    blk_root_gate_close(root);
    blk_root_co_wait_idle(root);
    assert(list_is_empty(&root->waits));
    node = blk_edge_detach(&root->edge);
    tokens_put(root->tokens);
    mem_free(root);
    blk_perms_co_settle(node);
    blk_node_co_unref(node);
}

const char *blk_root_user(const struct blk_root *root)
{
    return root->ops->describe(root->opaque);
}

struct blk_node *blk_root_node(const struct blk_root *root)
{
    return root->edge.lower;
}

uint64_t blk_root_bytes(const struct blk_root *root)
{
    return blk_node_bytes(root->edge.lower);
}

bool blk_root_is_gated(const struct blk_root *root)
{
    return at_load_relaxed(&root->tokens->gate_closed) != 0; /* advice only: stale at once */
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* (T6) */
static inline void bind_token(const struct blk_root *root)
{
    void **local = co_local_here();

    if (local != NULL) {
        *local = (void *)(uintptr_t)root;
    }
}

no_inline bool blk_root_raise(struct blk_root *root)
{
    if (unlikely(!blk_tokens_raise(root->tokens, loop_index_here()))) {
        return false;
    }
    bind_token(root);
    return true;
}

TSA_TRUST /* the token is the count itself */
no_inline void blk_root_raise_under(struct blk_root *root)
{
    blk_tokens_raise_under(root->tokens, loop_index_here());
}

TSA_TRUST /* the token is the count itself */
no_inline void blk_root_drop(struct blk_root *root)
{
    void **local = co_local_here();

    if (local != NULL && *local == root) {
        *local = NULL;
    }
    blk_tokens_drop(root->tokens, loop_index_here());
    /* @root may be gone. */
}

no_inline void blk_root_assert_token(const struct blk_root *root)
{
    assert(root->edge.lower != NULL);
    bind_token(root);
}

/* ---- I/O ------------------------------------------------------------------------------------- */

/* A token carried is a pointer compared: O(1), also in release. */
static inline void check_token(const struct blk_root *root)
{
    void **local = co_local_here();

    if (unlikely(local == NULL || *local != root)) {
        panic("I/O on a root of node '%s' without its token", root->edge.lower->name);
    }
}

int blk_root_co_preadv(struct blk_root *root, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, unsigned flags)
{
    check_token(root);
    return blk_node_co_preadv(root->edge.lower, offset, bytes, iov, count, flags);
}

int blk_root_co_pwritev(struct blk_root *root, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, unsigned flags)
{
    check_token(root);
    return blk_node_co_pwritev(root->edge.lower, offset, bytes, iov, count, flags);
}

int blk_root_co_flush(struct blk_root *root)
{
    check_token(root);
    return blk_node_co_flush(root->edge.lower);
}

int blk_root_co_discard(struct blk_root *root, uint64_t offset, uint64_t bytes)
{
    check_token(root);
    return blk_node_co_discard(root->edge.lower, offset, bytes);
}

int blk_root_co_write_zeroes(struct blk_root *root, uint64_t offset, uint64_t bytes, unsigned flags)
{
    check_token(root);
    return blk_node_co_write_zeroes(root->edge.lower, offset, bytes, flags);
}

int blk_root_co_status(struct blk_root *root, uint64_t offset, uint64_t bytes,
                       unsigned *ret_status, uint64_t *ret_bytes)
{
    check_token(root);
    return blk_node_co_status(root->edge.lower, offset, bytes, ret_status, ret_bytes);
}
