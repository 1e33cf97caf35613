/* epoll.c -- the epoll half of os/ring.h: level-triggered, events in random order. */
#include "os/ring.h"
#include "base/mem.h"
#include "sim/sim_int.h"
#include <errno.h>
#include <poll.h>

struct entry {
    struct list link;
    int fd;
    struct sim_desc *desc; /* borrowed */
    uint64_t serial;
    unsigned events;
    uint64_t user;
};

struct set {
    struct sim_desc desc;
    struct list entries;
};

/* A closed descriptor leaves the set by itself. */
static bool is_alive(const struct entry *entry)
{
    const struct sim_desc *desc = sim_fd_get(entry->fd);

    return desc != NULL && desc->serial == entry->serial;
}

static unsigned entry_events(const struct entry *entry)
{
    return is_alive(entry) && entry->events != 0 ? sim_desc_poll(entry->desc, entry->events) : 0;
}

static unsigned set_poll(struct sim_desc *desc)
{
    const struct set *set = (const struct set *)desc;
    const struct entry *entry;

    list_for_each(entry, &set->entries, link)
    {
        if (entry_events(entry) != 0) {
            return POLLIN;
        }
    }
    return 0;
}

static void set_close(struct sim_desc *desc)
{
    struct set *set = (struct set *)desc;
    struct list *item;

    while ((item = list_pop_head(&set->entries)) != NULL) {
        mem_free(list_entry(item, struct entry, link));
    }
    mem_free(set);
}

static const struct sim_desc_ops set_ops = {.poll = set_poll, .close = set_close};

int os_epoll_new(void)
{
    struct set *set;
    int fault = sim_fault("epoll-new", EMFILE);

    if (fault < 0) {
        return fault;
    }
    set = mem_new(struct set);
    sim_desc_init(&set->desc, &set_ops);
    list_init(&set->entries);
    return sim_fd_install(&set->desc);
}

static struct set *set_of(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);

    return desc != NULL && desc->ops == &set_ops ? (struct set *)desc : NULL;
}

static struct entry *find(struct set *set, int fd)
{
    struct entry *entry, *next;

    list_for_each_safe(entry, next, &set->entries, link)
    {
        if (!is_alive(entry)) {
            list_remove(&entry->link);
            mem_free(entry);
        } else if (entry->fd == fd) {
            return entry;
        }
    }
    return NULL;
}

int os_epoll_set(int epoll_fd, int fd, unsigned poll_events, uint64_t user, bool is_new)
{
    struct set *set = set_of(epoll_fd);
    struct sim_desc *desc = sim_fd_get(fd);
    struct entry *entry;

    if (set == NULL || desc == NULL) {
        return -EBADF;
    }
    if ((desc->ops->mode & 0170000) == 0100000) {
        return -EPERM; /* a regular file */
    }
    entry = find(set, fd);
    if ((entry != NULL) == is_new) {
        return is_new ? -EEXIST : -ENOENT;
    }
    if (is_new) {
        entry = mem_new(struct entry);
        entry->fd = fd;
        entry->desc = desc;
        entry->serial = desc->serial;
        list_add_tail(&set->entries, &entry->link);
    }
    entry->events = poll_events;
    entry->user = user;
    return 0;
}

int os_epoll_remove(int epoll_fd, int fd)
{
    struct set *set = set_of(epoll_fd);
    struct entry *entry = set != NULL ? find(set, fd) : NULL;

    if (entry == NULL) {
        return set == NULL || sim_fd_get(fd) == NULL ? -EBADF : -ENOENT;
    }
    list_remove(&entry->link);
    mem_free(entry);
    return 0;
}

static bool has_events(void *opaque)
{
    return set_poll(opaque) != 0;
}

/* The ready entries, from a random one on, round the list. */
static int collect(struct set *set, struct os_epoll_event *to, int max)
{
    struct entry *entry;
    uint64_t total = 0, first, i = 0;
    int count = 0;

    list_for_each(entry, &set->entries, link)
    {
        total++;
    }
    first = sim_below(total);
    for (int round = 0; round < 2; round++, i = 0) {
        list_for_each(entry, &set->entries, link)
        {
            unsigned events = (i++ >= first) == (round == 0) ? entry_events(entry) : 0;

            if (events != 0 && count < max) {
                to[count++] = (struct os_epoll_event){.user = entry->user, .events = events};
            }
        }
    }
    sim_trace("epoll", (uint64_t)count);
    return count;
}

int os_epoll_wait(int epoll_fd, struct os_epoll_event *to, int max, uint64_t timeout_ns)
{
    struct set *set = set_of(epoll_fd);

    if (set == NULL) {
        return -EBADF;
    }
    if (sim_fault("epoll-wait-interrupted", EINTR) < 0) {
        return -EINTR;
    }
    if (timeout_ns == 0) {
        sim_step("epoll");
    } else if (!sim_wait(has_events, set, timeout_ns, "epoll")) {
        return 0;
    }
    return collect(set, to, max);
}
