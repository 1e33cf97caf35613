/*
 * list.h -- an intrusive, doubly linked, circular list.
 *
 * A head is a struct list; an element embeds one. list_init() both: an element that is on no list
 * points to itself, so list_remove() of it is harmless and list_is_linked() tells.
 */
#pragma once
#include "base/macros.h"
#include "base/ctx.h"

CTX_ANY_BEGIN

struct list {
    struct list *next;
    struct list *prev;
};

#define LIST_INIT(name) {&(name), &(name)}

static inline void list_init(struct list *item)
{
    item->next = item->prev = item;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline bool list_is_linked(const struct list *item)
{
    return item->next != item;
}

static inline void list_add_after(struct list *at, struct list *item)
{
    item->next = at->next;
    item->prev = at;
    at->next->prev = item;
    at->next = item;
}

static inline void list_add_tail(struct list *head, struct list *item)
{
    list_add_after(head->prev, item);
}

static inline void list_add_head(struct list *head, struct list *item)
{
    list_add_after(head, item);
}

static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* First element taken off, or NULL. */
static inline struct list *list_pop_head(struct list *head)
{
    struct list *item = head->next;

    if (item == head) {
        return NULL;
    }
    list_remove(item);
    return item;
}

/* All of @from to the end of @head; @from is empty afterwards. */
static inline void list_splice_tail(struct list *head, struct list *from)
{
    if (!list_is_empty(from)) {
        from->next->prev = head->prev;
        head->prev->next = from->next;
        from->prev->next = head;
        head->prev = from->prev;
        list_init(from);
    }
}

#define list_entry(item, type, member) container_of(item, type, member)
#define list_first(head, type, member)                                                             \
    (list_is_empty(head) ? NULL : list_entry((head)->next, type, member))

/* The _SAFE form survives removal of the current element, and of nothing else. */
#define list_for_each(var, head, member)                                                           \
    for (var = list_entry((head)->next, __typeof__(*var), member); &var->member != (head);         \
         var = list_entry(var->member.next, __typeof__(*var), member))
#define list_for_each_safe(var, following, head, member)                                           \
    for (var = list_entry((head)->next, __typeof__(*var), member),                                 \
        following = list_entry(var->member.next, __typeof__(*var), member);                        \
         &var->member != (head);                                                                   \
         var = following, following = list_entry(var->member.next, __typeof__(*var), member))

CTX_ANY_END
