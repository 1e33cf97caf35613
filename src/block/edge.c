/*
 * edge.c -- attaching and detaching: how the graph changes.
 *
 * (G1) An edge changes only while its upper end is drained, or new and still without I/O; nothing
 *      else is drained for it. Attaching to a busy or hung node waits for none of its users.
 * (G2) Prepare may yield and fail: references, claims, drivers' locks. Then, without a yield, check
 *      (permissions, depth) and commit (links, counts, sections). What was prepared is checked anew
 *      after every yield.
 * (G3) An edge inherits its lower end's sections at commit (drain.c).
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/perm_int.h"
#include <errno.h>

char *blk_edge_user(const struct blk_edge *edge)
{
    if (edge->root != NULL) {
        return mem_strdup(blk_root_user(edge->root));
    }
    return str_format("node '%s' as '%s'", edge->upper->name, edge->def->name);
}

struct blk_node *blk_edge_node(const struct blk_edge *edge)
{
    return edge->lower;
}

/* ---- claims: permissions about to be taken (P4) ---------------------------------------------- */

struct claim {
    struct list link; /* of the attempt */
    struct blk_perm_claim on_node;
    struct blk_node *node; /* a reference */
};

MAIN_LOOP
static struct claim *claim_new(struct list *claims, struct blk_node *node)
{
    struct claim *claim = mem_new(struct claim);

    blk_node_outside_perms(node, &claim->on_node.perm, &claim->on_node.unshared);
    claim->node = node;
    blk_node_ref(node);
    list_add_tail(&node->claims, &claim->on_node.link);
    list_add_tail(claims, &claim->link);
    return claim;
}

/* Withdraw them all; drivers are told what is left of them in the graph. */
MAIN_LOOP CO_FN
static void claims_co_release(struct list *claims)
{
    struct claim *claim;
    struct list *item;

    list_for_each(claim, claims, link) {
        list_remove(&claim->on_node.link);
    }
    while ((item = list_pop_head(claims)) != NULL) {
        claim = list_entry(item, struct claim, link);
        blk_node_co_tell_perms(claim->node, NULL); /* shrinking does not fail */
        blk_node_co_unref(claim->node);
        mem_free(claim);
    }
}

/* ---- attach ---------------------------------------------------------------------------------- */

MAIN_LOOP
static void link_edge(struct blk_edge *edge, struct blk_node *lower)
{
    edge->lower = lower;
    edge->perm = 0;
    edge->shared = BLK_PERM_ALL;
    list_add_tail(&lower->parents, &edge->in_parents);
}

MAIN_LOOP
static void unlink_edge(struct blk_edge *edge)
{
    list_remove(&edge->in_parents);
    edge->lower = NULL;
}

MAIN_LOOP
static int check_depth(const struct blk_edge *edge, const struct blk_node *lower,
                       struct err **reterr)
{
    if (edge->upper != NULL && lower->depth + 1 > BLK_DEPTH_MAX) {
        return err_set(reterr, ELOOP,
                       "Node '%s' above '%s' would make a graph of more than %d levels",
                       edge->upper->name, lower->name, BLK_DEPTH_MAX);
    }
    return 0;
}

/* Try it on the spot. 0: it is done. 1: *@ret_untold's driver must be told first, nothing changed.
 * Or an error, nothing changed. */
MAIN_LOOP
static int try_attach(struct blk_edge *edge, struct blk_node *lower, unsigned perm, unsigned shared,
                      struct list *claims, struct claim **ret_claim, struct err **reterr)
{
    struct blk_perm_trial trial;
    struct blk_node *untold = NULL;
    int rc;

    blk_perm_trial_begin(&trial);
    link_edge(edge, lower);
    blk_perm_trial_set(&trial, edge, perm, shared);
    rc = blk_perm_trial_check(&trial, reterr);
    if (rc == 0) {
        untold = blk_perm_trial_untold(&trial);
    }
    if (untold != NULL) {
        *ret_claim = claim_new(claims, untold);
        rc = 1;
    }
    if (rc == 0) {
        blk_perm_trial_keep(&trial);
        return 0;
    }
    blk_perm_trial_undo(&trial);
    unlink_edge(edge);
    return rc;
}

int blk_edge_co_attach(struct blk_edge *edge, struct blk_node *lower, unsigned perm,
                       unsigned shared, struct err **reterr)
{
    struct list claims = LIST_INIT(claims);
    struct claim *claim = NULL;
    int rc = check_depth(edge, lower, reterr);

    if (rc < 0) {
        return rc;
    }
    blk_node_ref(lower);
    lower->attaching++;
    while ((rc = try_attach(edge, lower, perm, shared, &claims, &claim, reterr)) == 1) {
        rc = blk_node_co_tell_perms(claim->node, reterr);
        if (rc < 0) {
            break;
        }
    }
    lower->attaching--;
    if (rc == 0) {
        if (edge->upper != NULL) {
            edge->upper->depth = max_of(edge->upper->depth, lower->depth + 1);
        }
        blk_quiet_attached(edge);
        claims_co_release(&claims);
        return 0;
    }
    claims_co_release(&claims);
    blk_node_co_unref(lower);
    return rc;
}

/* ---- detach ---------------------------------------------------------------------------------- */

struct blk_node *blk_edge_detach(struct blk_edge *edge)
{
    struct blk_node *lower = edge->lower;
    struct blk_perm_trial trial;

    blk_quiet_detaching(edge);
    blk_perm_trial_begin(&trial);
    blk_perm_trial_set(&trial, edge, 0, BLK_PERM_ALL);
    blk_perm_trial_keep(&trial); /* permissions only shrink: nothing to check */
    unlink_edge(edge);
    return lower;
}
