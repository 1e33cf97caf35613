/*
 * drain.c -- drained sections: bring what is above a node to rest, and let it go again.
 *
 * (D1) A node is drained exactly when every root above it is gated and has no token.
 * (D2) A node is quiet when it has a section of its own or a child edge to a quiet node; `quiet`
 *      counts these. A root is gated when it was closed itself or its node is quiet; `gate` counts
 *      these. Counts move upward only when one leaves or reaches zero, so a walk costs the edges
 *      above and no more, also where paths join. They are main-loop data.
 * (D3) An edge made meanwhile adds its lower end's quiet to its upper end, one removed takes it
 *      away.
 * (D4) All counts of a change are settled, then gates close, then one heavy fence, then counters
 *      are read. Or all counts are settled, then for each root that opens: a token is raised for
 *      it, the gate opens, parked requests are restarted under that token, it is dropped. In that
 *      order: a restart sent before the gate opens could be over when a late request still finds
 *      it closed and parks, and nobody would ever come for that one.
 * (D5) A gated root that was seen idle stays idle until its gate opens (token.h, T3): each root is
 *      waited for once a section, and a kick looks only at the root it came from.
 * (D6) A section that gives up takes back what it counted, as an end does: nothing has changed.
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/graph_int.h"
#include "block/root_int.h"
#include "sync/asym.h"
#include <errno.h>
#include <inttypes.h>

/* Somebody who waits until some roots are idle. */
struct waiter {
    struct list link; /* of `waiters` */
    const char *kind;
    const char *owner;
    const struct blk_node *node;
    uint64_t since_s;
    struct list waits; /* struct blk_wait, one per root still busy */
    bool is_blocked;
    struct co_wait wait;
};

struct blk_wait {
    struct list in_waiter;
    struct list in_root;
    struct waiter *waiter;
    struct blk_root *root;
};

struct blk_section {
    struct blk_node *node; /* a reference */
    char *owner;
};

static struct list waiters = LIST_INIT(waiters); /* main loop */

/* ---- gates ----------------------------------------------------------------------------------- */

MAIN_LOOP
static void gate_count_up(struct blk_root *root, struct list *closing)
{
    if (root->gate++ == 0) {
        list_add_tail(closing, &root->work);
    }
}

MAIN_LOOP
static void gate_count_down(struct blk_root *root, struct list *opening)
{
    assert(root->gate > 0);
    if (--root->gate == 0) {
        list_add_tail(opening, &root->work);
    }
}

MAIN_LOOP
static void close_gates(struct list *closing)
{
    struct list *item;

    if (list_is_empty(closing)) {
        return;
    }
    while ((item = list_pop_head(closing)) != NULL) {
        struct blk_root *root = list_entry(item, struct blk_root, work);

        blk_tokens_gate_close(root->tokens);
        root->is_idle = false;
    }
    asym_heavy(); /* pairs with asym_light() in raise and drop: from here on counters may be read */
}

MAIN_LOOP
static void open_gate(struct blk_root *root)
{
    unsigned cell = loop_index(loop_main());

    blk_tokens_raise_under(root->tokens, cell); /* what the restart admits enters under it */
    root->is_idle = false;
    blk_tokens_gate_open(root->tokens);
    if (root->ops->restart != NULL) {
        root->ops->restart(root->opaque);
    }
    blk_tokens_drop(root->tokens, cell);
}

MAIN_LOOP
static void open_gates(struct list *opening)
{
    struct list *item;

    while ((item = list_pop_head(opening)) != NULL) {
        open_gate(list_entry(item, struct blk_root, work));
    }
}

/* ---- counting upward (D2) -------------------------------------------------------------------- */

MAIN_LOOP
static void quiet_up(struct blk_node *node, struct list *todo)
{
    if (node->quiet++ == 0) {
        list_add_tail(todo, &node->work);
    }
}

MAIN_LOOP
static void quiet_down(struct blk_node *node, struct list *todo)
{
    assert(node->quiet > 0);
    if (--node->quiet == 0) {
        list_add_tail(todo, &node->work);
    }
}

/* Each node of @todo has become quiet: tell its parents. */
MAIN_LOOP
static void spread_quiet(struct list *todo, struct list *closing)
{
    const struct blk_edge *edge;
    struct list *item;

    while ((item = list_pop_head(todo)) != NULL) {
        list_for_each(edge, &list_entry(item, struct blk_node, work)->parents, in_parents) {
            if (edge->root != NULL) {
                gate_count_up(edge->root, closing);
            } else {
                quiet_up(edge->upper, todo);
            }
        }
    }
}

MAIN_LOOP
static void spread_loud(struct list *todo, struct list *opening)
{
    const struct blk_edge *edge;
    struct list *item;

    while ((item = list_pop_head(todo)) != NULL) {
        list_for_each(edge, &list_entry(item, struct blk_node, work)->parents, in_parents) {
            if (edge->root != NULL) {
                gate_count_down(edge->root, opening);
            } else {
                quiet_down(edge->upper, todo);
            }
        }
    }
}

MAIN_LOOP
static void quiet_begin(struct blk_node *node)
{
    struct list todo = LIST_INIT(todo);
    struct list closing = LIST_INIT(closing);

    quiet_up(node, &todo);
    spread_quiet(&todo, &closing);
    close_gates(&closing);
}

MAIN_LOOP
static void quiet_end(struct blk_node *node)
{
    struct list todo = LIST_INIT(todo);
    struct list opening = LIST_INIT(opening);

    quiet_down(node, &todo);
    spread_loud(&todo, &opening);
    open_gates(&opening);
}

void blk_quiet_attached(struct blk_edge *edge)
{
    struct list closing = LIST_INIT(closing);

    if (edge->lower->quiet == 0) {
        return;
    }
    if (edge->root != NULL) {
        gate_count_up(edge->root, &closing);
        close_gates(&closing);
    } else {
        quiet_begin(edge->upper);
    }
}

void blk_quiet_detaching(struct blk_edge *edge)
{
    struct list opening = LIST_INIT(opening);

    if (edge->lower->quiet == 0) {
        return;
    }
    if (edge->root != NULL) {
        gate_count_down(edge->root, &opening);
        open_gates(&opening);
    } else {
        quiet_end(edge->upper);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

MAIN_LOOP
static void wait_remove(struct blk_wait *wait)
{
    list_remove(&wait->in_waiter);
    list_remove(&wait->in_root);
    mem_free(wait);
}

/* Is it idle (D5)? Gate closed and fenced. */
MAIN_LOOP
static bool is_idle(struct blk_root *root)
{
    assert(root->gate > 0);
    if (!root->is_idle) {
        root->is_idle = blk_tokens_are_idle(root->tokens);
    }
    return root->is_idle;
}

MAIN_LOOP
static void waiter_add_root(struct waiter *waiter, struct blk_root *root)
{
    struct blk_wait *wait;

    if (is_idle(root)) {
        blk_root_look(root); /* for those whose kick has not run yet: our caller may free @root */
        return;
    }
    wait = mem_new(struct blk_wait);
    wait->waiter = waiter;
    wait->root = root;
    list_add_tail(&waiter->waits, &wait->in_waiter);
    list_add_tail(&root->waits, &wait->in_root);
}

void blk_root_look(struct blk_root *root)
{
    if (root->gate == 0 || list_is_empty(&root->waits) || !is_idle(root)) {
        return;
    }
    while (!list_is_empty(&root->waits)) {
        struct blk_wait *wait = list_entry(root->waits.next, struct blk_wait, in_root);
        struct waiter *waiter = wait->waiter;

        wait_remove(wait);
        if (list_is_empty(&waiter->waits) && waiter->is_blocked) {
            co_wait_complete(&waiter->wait, 0);
        }
    }
}

HOME_LOOP
static void deadline_passed(void *opaque)
{
    struct waiter *waiter = opaque;

    co_wait_complete(&waiter->wait, -ETIMEDOUT);
}

MAIN_LOOP
static void waiter_init(struct waiter *waiter, const char *kind, const char *owner,
                        const struct blk_node *node)
{
    waiter->kind = kind;
    waiter->owner = owner;
    waiter->node = node;
    waiter->since_s = loop_now_ns(LOOP_CLOCK_REALTIME) / 1000000000U;
    waiter->is_blocked = false;
    list_init(&waiter->waits);
    list_add_tail(&waiters, &waiter->link);
}

/* 0, or -ETIMEDOUT: the waits that are left name what did not end. */
MAIN_LOOP CO_FN
static int waiter_co_block(struct waiter *waiter, uint64_t deadline_ns)
{
    struct loop_timer timer;
    int rc;

    if (list_is_empty(&waiter->waits)) {
        return 0;
    }
    loop_assert_home(loop_main());
    co_wait_init(&waiter->wait);
    waiter->is_blocked = true;
    loop_timer_init(&timer, LOOP_CLOCK_MONOTONIC, deadline_passed, waiter);
    if (deadline_ns != 0) {
        loop_timer_arm(&timer, deadline_ns);
    }
    rc = (int)co_wait_block(&waiter->wait);
    waiter->is_blocked = false;
    loop_timer_cancel(&timer);
    return list_is_empty(&waiter->waits) ? 0 : rc; /* both at once: they are all idle */
}

MAIN_LOOP
static void waiter_fini(struct waiter *waiter)
{
    while (!list_is_empty(&waiter->waits)) {
        wait_remove(list_entry(waiter->waits.next, struct blk_wait, in_waiter));
    }
    list_remove(&waiter->link);
}

/* ---- sections -------------------------------------------------------------------------------- */

/* Every root above @node that is not idle yet. All are gated, so nothing new comes while we wait:
 * an edge made meanwhile brings a root that is new, or idle behind a gate. */
MAIN_LOOP
static void wait_for_roots_above(struct waiter *waiter, struct blk_node *node)
{
    struct list todo = LIST_INIT(todo);
    struct list seen = LIST_INIT(seen);
    const struct blk_edge *edge;
    struct list *item;

    list_add_tail(&todo, &node->work);
    while ((item = list_pop_head(&todo)) != NULL) {
        list_add_tail(&seen, item); /* linked until the end: a node is walked once */
        list_for_each(edge, &list_entry(item, struct blk_node, work)->parents, in_parents) {
            if (edge->root != NULL) {
                waiter_add_root(waiter, edge->root);
            } else if (!list_is_linked(&edge->upper->work)) {
                list_add_tail(&todo, &edge->upper->work);
            }
        }
    }
    while (list_pop_head(&seen) != NULL) {
    }
}

MAIN_LOOP
static void describe_busy(const struct waiter *waiter, struct strbuf *to)
{
    const struct blk_wait *wait;

    list_for_each(wait, &waiter->waits, in_waiter) {
        strbuf_addf(to, "%s%s (%" PRIu64 " under way)", to->bytes > 0 ? ", " : "",
                    blk_root_user(wait->root), blk_tokens_out(wait->root->tokens));
    }
}

MAIN_LOOP
static int report_timeout(const struct waiter *waiter, struct err **reterr)
{
    struct strbuf busy = {0};

    describe_busy(waiter, &busy);
    err_set(reterr, ETIMEDOUT, "%s: node '%s' did not come to rest in time, it is used by %s",
            waiter->owner, waiter->node->name, busy.text);
    strbuf_fini(&busy);
    return -ETIMEDOUT;
}

MAIN_LOOP
static void section_free(struct blk_section *section)
{
    blk_node_unref_later(section->node);
    mem_free(section->owner);
    mem_free(section);
}

int blk_section_co_begin(struct blk_node *node, const char *owner, uint64_t deadline_ns,
                         struct blk_section **ret_section, struct err **reterr)
{
    struct blk_section *section = mem_new(struct blk_section);
    struct waiter waiter;
    int rc;

    section->node = node;
    section->owner = mem_strdup(owner);
    blk_node_ref(node);
    quiet_begin(node);
    waiter_init(&waiter, "drain", section->owner, node);
    wait_for_roots_above(&waiter, node);
    rc = waiter_co_block(&waiter, deadline_ns);
    if (rc < 0) {
        report_timeout(&waiter, reterr);
    }
    waiter_fini(&waiter);
    if (rc < 0) {
        blk_section_end(section);
        return rc;
    }
    *ret_section = section;
    return 0;
}

void blk_section_end(struct blk_section *section)
{
    quiet_end(section->node);
    section_free(section);
}

/* ---- one root alone -------------------------------------------------------------------------- */

void blk_root_gate_close(struct blk_root *root)
{
    struct list closing = LIST_INIT(closing);

    gate_count_up(root, &closing);
    close_gates(&closing);
}

void blk_root_gate_open(struct blk_root *root)
{
    struct list opening = LIST_INIT(opening);

    gate_count_down(root, &opening);
    open_gates(&opening);
}

void blk_root_co_wait_idle(struct blk_root *root)
{
    struct waiter waiter;

    waiter_init(&waiter, "root-idle", blk_root_user(root), root->edge.lower);
    waiter_add_root(&waiter, root);
    waiter_co_block(&waiter, /* deadline_ns */ 0);
    waiter_fini(&waiter);
}

/* ---- explaining ------------------------------------------------------------------------------ */

MAIN_LOOP
static json_t *waits_describe(const struct waiter *waiter)
{
    json_t *array = json_array();
    const struct blk_wait *wait;

    list_for_each(wait, &waiter->waits, in_waiter) {
        json_array_append_new(
            array, json_pack("{s:s, s:I}", "user", blk_root_user(wait->root), "requests",
                             (json_int_t)blk_tokens_out(wait->root->tokens)));
    }
    return array;
}

void blk_sections_describe(json_t *to_array)
{
    const struct waiter *waiter;

    list_for_each(waiter, &waiters, link) {
        json_array_append_new(
            to_array, json_pack("{s:s, s:s, s:s, s:I, s:o}", "kind", waiter->kind, "owner",
                                waiter->owner, "node-name", waiter->node->name, "since",
                                (json_int_t)waiter->since_s, "waits-for", waits_describe(waiter)));
    }
}
