/*
 * perm.c -- who does what with a node, and what others may do meanwhile.
 *
 * (P1) Each parent edge takes some permissions and shares some. Two parents of a node conflict when
 *      one takes what the other does not share. A node counts takers and refusers of each
 *      permission, so a check costs the changed edges and never the number of parents.
 * (P2) An edge of a driver that passes requests on takes what its node's users take and shares no
 *      more than they do: a change at the top travels down. The graph has no cycle, so it ends.
 * (P3) Changes are tried, checked and kept or undone in one stretch without a yield.
 * (P4) Drivers that keep locks outside the process are told before the graph grows (they may
 *      refuse, slowly) and after it has shrunk. What is about to be taken is a claim on the node:
 *      what the driver knows always covers both the graph and the claims.
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/perm_int.h"
#include <errno.h>

static const char *const perm_names[BLK_PERM_BITS] = {
    "consistent read",
    "write",
    "write unchanged",
    "resize",
};

const char *blk_perm_name(unsigned bit)
{
    return perm_names[bit];
}

struct change {
    struct list link;
    struct blk_edge *edge;
    unsigned perm_before, shared_before;
};

void blk_node_cumulative_perms(const struct blk_node *node, unsigned *ret_perm,
                               unsigned *ret_shared)
{
    unsigned perm = 0;
    unsigned shared = BLK_PERM_ALL;

    for (unsigned i = 0; i < BLK_PERM_BITS; i++) {
        perm |= node->takers[i] > 0 ? 1U << i : 0;
        shared &= node->refusers[i] > 0 ? ~(1U << i) : ~0U;
    }
    *ret_perm = perm;
    *ret_shared = shared;
}

void blk_child_perms(const struct blk_node *node, const struct blk_child_def *def,
                     unsigned *ret_perm, unsigned *ret_shared)
{
    unsigned users_perm, users_shared;

    blk_node_cumulative_perms(node, &users_perm, &users_shared);
    *ret_perm = def->perm | (node->read_only ? 0 : def->perm_writer);
    *ret_shared = def->shared;
    if (def->flags & BLK_CHILD_PASSES_USERS) {
        *ret_perm |= users_perm;
        *ret_shared &= users_shared;
    }
}

/* ---- counting -------------------------------------------------------------------------------- */

MAIN_LOOP
static void count(struct blk_node *node, unsigned perm, unsigned shared, int by)
{
    for (unsigned i = 0; i < BLK_PERM_BITS; i++) {
        node->takers[i] += (perm >> i & 1) != 0 ? (unsigned)by : 0;
        node->refusers[i] += (shared >> i & 1) == 0 ? (unsigned)by : 0;
    }
}

MAIN_LOOP
static void edge_set(struct blk_edge *edge, unsigned perm, unsigned shared)
{
    count(edge->lower, edge->perm, edge->shared, -1);
    edge->perm = perm;
    edge->shared = shared;
    count(edge->lower, perm, shared, 1);
}

MAIN_LOOP
static void trial_set_one(struct blk_perm_trial *trial, struct blk_edge *edge, unsigned perm,
                          unsigned shared)
{
    struct change *change = mem_new(struct change);

    change->edge = edge;
    change->perm_before = edge->perm;
    change->shared_before = edge->shared;
    list_add_tail(&trial->changes, &change->link);
    edge_set(edge, perm, shared);
}

/* (P2): the children of @node follow what its users now take; those that changed join @todo. */
MAIN_LOOP
static void follow_users(struct blk_perm_trial *trial, struct blk_node *node, struct list *todo)
{
    for (size_t i = 0; i < BLK_DRIVER_CHILDREN_MAX; i++) {
        struct blk_edge *edge = &node->child[i];
        unsigned perm, shared;

        if (edge->lower == NULL || !(edge->def->flags & BLK_CHILD_PASSES_USERS)) {
            continue;
        }
        blk_child_perms(node, edge->def, &perm, &shared);
        if (perm != edge->perm || shared != edge->shared) {
            trial_set_one(trial, edge, perm, shared);
            if (!list_is_linked(&edge->lower->work)) {
                list_add_tail(todo, &edge->lower->work);
            }
        }
    }
}

void blk_perm_trial_begin(struct blk_perm_trial *trial)
{
    list_init(&trial->changes);
}

void blk_perm_trial_set(struct blk_perm_trial *trial, struct blk_edge *edge, unsigned perm,
                        unsigned shared)
{
    static struct list todo = LIST_INIT(todo); /* empty when this returns */
    struct list *item;

    trial_set_one(trial, edge, perm, shared);
    list_add_tail(&todo, &edge->lower->work);
    while ((item = list_pop_head(&todo)) != NULL) {
        follow_users(trial, list_entry(item, struct blk_node, work), &todo);
    }
}

void blk_perm_trial_keep(struct blk_perm_trial *trial)
{
    struct list *item;

    while ((item = list_pop_head(&trial->changes)) != NULL) {
        mem_free(list_entry(item, struct change, link));
    }
}

void blk_perm_trial_undo(struct blk_perm_trial *trial)
{
    while (!list_is_empty(&trial->changes)) {
        struct change *last = list_entry(trial->changes.prev, struct change, link);

        edge_set(last->edge, last->perm_before, last->shared_before);
        list_remove(&last->link);
        mem_free(last);
    }
}

/* ---- checking -------------------------------------------------------------------------------- */

MAIN_LOOP
static char *perm_text(unsigned perm)
{
    struct strbuf text = {0};

    for (unsigned i = 0; i < BLK_PERM_BITS; i++) {
        if (perm >> i & 1) {
            strbuf_addf(&text, "%s%s", text.bytes > 0 ? ", " : "", perm_names[i]);
        }
    }
    return text.text;
}

MAIN_LOOP
static int conflict(const struct blk_node *node, unsigned perm, const struct blk_edge *taker,
                    const struct blk_edge *refuser, struct err **reterr)
{
    AUTO_MEM char *what = perm_text(perm);
    AUTO_MEM char *one = blk_edge_user(taker);
    AUTO_MEM char *other = blk_edge_user(refuser);

    return err_set(reterr, EPERM,
                   "Permission conflict on node '%s': permissions '%s' are both required by %s and "
                   "unshared by %s",
                   node->name, what, one, other);
}

/* The counts say that there is one: only now are the parents walked, to name it. */
MAIN_LOOP
static int name_conflict(const struct blk_edge *edge, struct err **reterr)
{
    const struct blk_node *node = edge->lower;
    const struct blk_edge *other;

    list_for_each(other, &node->parents, in_parents) {
        if (other == edge) {
            continue;
        }
        if ((edge->perm & ~other->shared) != 0) {
            return conflict(node, edge->perm & ~other->shared, edge, other, reterr);
        }
        if ((other->perm & ~edge->shared) != 0) {
            return conflict(node, other->perm & ~edge->shared, other, edge, reterr);
        }
    }
    unreachable();
}

MAIN_LOOP
static bool has_conflict(const struct blk_edge *edge)
{
    for (unsigned i = 0; i < BLK_PERM_BITS; i++) {
        unsigned takes = edge->perm >> i & 1;
        unsigned refuses = ~edge->shared >> i & 1;

        if ((takes && edge->lower->refusers[i] > refuses) ||
            (refuses && edge->lower->takers[i] > takes)) {
            return true;
        }
    }
    return false;
}

MAIN_LOOP
static int check_edge(const struct blk_edge *edge, struct err **reterr)
{
    if ((edge->perm & (BLK_PERM_WRITE | BLK_PERM_RESIZE)) && edge->lower->read_only) {
        AUTO_MEM char *user = blk_edge_user(edge);

        return err_set(reterr, EACCES, "Block node '%s' is read-only, but %s wants to write",
                       edge->lower->name, user);
    }
    return has_conflict(edge) ? name_conflict(edge, reterr) : 0;
}

int blk_perm_trial_check(const struct blk_perm_trial *trial, struct err **reterr)
{
    struct change *change;

    list_for_each(change, &trial->changes, link) {
        int rc = check_edge(change->edge, reterr);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- drivers with locks outside -------------------------------------------------------------- */

/* What the outside is to know: nothing, if the operator said so (force-share). */
void blk_node_outside_perms(const struct blk_node *node, unsigned *ret_perm, unsigned *ret_unshared)
{
    unsigned shared;

    blk_node_cumulative_perms(node, ret_perm, &shared);
    *ret_unshared = BLK_PERM_ALL & ~shared;
    if (node->options->force_share) {
        *ret_perm = 0;
        *ret_unshared = 0;
    }
}

struct blk_node *blk_perm_trial_untold(const struct blk_perm_trial *trial)
{
    struct change *change;

    list_for_each(change, &trial->changes, link) {
        struct blk_node *node = change->edge->lower;
        unsigned perm, unshared;

        if (!node->tells_perms) {
            continue;
        }
        blk_node_outside_perms(node, &perm, &unshared);
        if ((perm & ~node->locked_perm) != 0 || (unshared & ~node->locked_unshared) != 0) {
            return node;
        }
    }
    return NULL;
}

int blk_node_co_tell_perms(struct blk_node *node, struct err **reterr)
{
    const struct blk_perm_claim *claim;
    unsigned perm, unshared;
    int rc = 0;

    co_mutex_lock(&node->lock_mutex);
    blk_node_outside_perms(node, &perm, &unshared);
    list_for_each(claim, &node->claims, link) {
        perm |= claim->perm;
        unshared |= claim->unshared;
    }
    if (perm != node->locked_perm || unshared != node->locked_unshared) {
        rc = node->driver->co_set_perms(node, perm, BLK_PERM_ALL & ~unshared, reterr);
        if (rc == 0) {
            node->locked_perm = perm;
            node->locked_unshared = unshared;
        }
    }
    co_mutex_unlock(&node->lock_mutex);
    return rc;
}

struct told {
    struct list link;
    struct blk_node *node; /* a reference */
};

MAIN_LOOP
static void told_add(struct list *to, struct blk_node *node)
{
    struct told *told = mem_new(struct told);

    blk_node_ref(node);
    told->node = node;
    list_add_tail(to, &told->link);
}

/* The nodes at and below @node whose driver wants to know. */
MAIN_LOOP
static void collect_told(struct blk_node *node, struct list *to)
{
    static struct list todo = LIST_INIT(todo); /* empty when this returns */
    struct list *item;

    list_add_tail(&todo, &node->work);
    while ((item = list_pop_head(&todo)) != NULL) {
        struct blk_node *at = list_entry(item, struct blk_node, work);

        if (at->tells_perms) {
            told_add(to, at);
        }
        for (size_t i = 0; i < BLK_DRIVER_CHILDREN_MAX; i++) {
            struct blk_node *lower = at->child[i].lower;

            if (lower != NULL && !list_is_linked(&lower->work)) {
                list_add_tail(&todo, &lower->work);
            }
        }
    }
}

void blk_perms_co_settle(struct blk_node *node)
{
    struct list all = LIST_INIT(all);
    struct list *item;

    collect_told(node, &all);
    while ((item = list_pop_head(&all)) != NULL) {
        struct told *told = list_entry(item, struct told, link);

        blk_node_co_tell_perms(told->node, NULL); /* shrinking does not fail */
        blk_node_unref_later(told->node);         /* not from here: closing settles too */
        mem_free(told);
    }
}
