/*
 * daemon.c -- the life of `caisson daemon`: the command line is carried out, it serves, it ends.
 *
 * (M1) Everything after the loop exists runs in coroutines or callbacks of the main loop; nothing
 *      polls inside. Start-up is one coroutine, shutdown another, never both: a wish to quit during
 *      start-up is granted when the option under way has ended.
 * (M2) The pid file is written when every option has succeeded; only then are connections accepted.
 * (M3) Whatever ends the program (command, signal, an option that failed) takes the same way out:
 *      exports with their devices, nodes, objects, control connections. What was made before an
 *      option failed is undone by it.
 * (M4) That way out is bounded: when --shutdown-timeout and a little more are over, the process
 *      exits from wherever it is.
 */
#include "cli/daemon.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/drivers.h"
#include "block/root.h"
#include "cli/daemon_int.h"
#include "device/device.h"
#include "export/export.h"
#include "loop/io.h"
#include "loop/iothread.h"
#include "os/file.h"
#include "os/process.h"
#include "sync/asym.h"
#include "sync/rcu.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint64_t grace_ns = 3000000000; /* (M4): for what comes after the requests */

struct daemon {
    struct daemon_settings settings;
    struct chardevs chardevs;
    char *pidfile;     /* absolute; NULL: none written */
    bool is_started;   /* start-up is over, well or not */
    bool is_quitting;
    int exit_status;
    uint64_t deadline_ns;
    struct loop_timer last_exit; /* (M4) */
    int signal_fd;
    struct loop_watch signals;
};
static struct daemon *the_daemon; /* of the running cli_daemon_main(), for daemon_quit() */

/* ---- several things at once, and wait for all ---- */

struct crowd {
    unsigned left;
    struct co_wait wait;
};

struct crowd_member {
    struct crowd *crowd;
    char *name;
};

MAIN_LOOP
static void crowd_leave(struct crowd_member *member)
{
    struct crowd *crowd = member->crowd;

    mem_free(member->name);
    mem_free(member);
    if (--crowd->left == 0) {
        (void)co_wait_complete(&crowd->wait, 0);
    }
}

/* Run @fn once for each of @names, each in its coroutine with a crowd_member; returns when all
 * left. */
MAIN_LOOP CO_FN
static void crowd_run(const struct opt_strs *names, co_fn *fn, const char *label)
{
    struct crowd crowd = {.left = (unsigned)names->count};

    if (names->count == 0) {
        return;
    }
    co_wait_init(&crowd.wait);
    for (size_t i = 0; i < names->count; i++) {
        struct crowd_member *member = mem_new(struct crowd_member);

        member->crowd = &crowd;
        member->name = mem_strdup(names->items[i]);
        loop_co_spawn(loop_main(), fn, member, label);
    }
    (void)co_wait_block(&crowd.wait);
}

static void names_add(struct opt_strs *names, const char *name)
{
    names->items = mem_realloc(names->items, (names->count + 1) * sizeof(*names->items));
    names->items[names->count++] = mem_strdup(name);
}

static void names_free(struct opt_strs *names)
{
    for (size_t i = 0; i < names->count; i++) {
        mem_free(names->items[i]);
    }
    mem_free(names->items);
    *names = (struct opt_strs){0};
}

/* ---- the end ---- */

CO_FN
static void delete_node(void *opaque)
{
    struct crowd_member *member = opaque;

    loop_assert_main();
    (void)blk_node_co_delete(member->name, NULL); /* in use: its parents go first, in this round */
    crowd_leave(member);
}

CO_FN
static void delete_object(void *opaque)
{
    struct crowd_member *member = opaque;
    struct err *error = NULL;

    loop_assert_main();
    if (objects_co_delete(member->name, &error) < 0) {
        log_warn("%s", error->text);
        err_free(error);
    }
    crowd_leave(member);
}

MAIN_LOOP
static void add_node_name(struct blk_node *node, void *opaque)
{
    names_add(opaque, blk_node_name(node));
}

MAIN_LOOP
static void add_object_name(struct iothread *thread, void *opaque)
{
    names_add(opaque, iothread_id(thread));
}

/* Parents before children, all of a generation at once. */
MAIN_LOOP CO_FN
static void delete_nodes(void)
{
    size_t before = SIZE_MAX;

    for (;;) {
        struct opt_strs names = {0};
        size_t count;

        blk_node_each(add_node_name, &names);
        count = names.count;
        if (count > 0 && count < before) {
            crowd_run(&names, delete_node, "quit-node");
        }
        names_free(&names);
        if (count == 0 || count >= before) {
            return; /* none left, or none that would go: still in use by what did not end in time */
        }
        before = count;
    }
}

MAIN_LOOP CO_FN
static void delete_objects(void)
{
    struct opt_strs names = {0};

    iothread_each(add_object_name, &names);
    crowd_run(&names, delete_object, "quit-object");
    names_free(&names);
}

/* Some request did not end: nothing below it can be taken apart in an orderly way. */
MAIN_LOOP CO_FN
static void give_up(struct daemon *daemon)
{
    log_error("giving up: not everything has ended within %" PRIu64 " s",
              daemon->settings.shutdown_timeout_ns / 1000000000);
    (void)qmp_co_close_all(loop_now_ns(LOOP_CLOCK_MONOTONIC));
    fflush(NULL);
    os_exit(DAEMON_FAILED);
}

CO_FN
static void shut_down(void *opaque)
{
    struct daemon *daemon = opaque;

    loop_assert_main();
    chardevs_stop(&daemon->chardevs);
    if (export_co_delete_all(daemon->deadline_ns) < 0) {
        give_up(daemon);
    }
    delete_nodes();
    delete_objects();
    if (qmp_co_close_all(daemon->deadline_ns) > 0) {
        give_up(daemon);
    }
    loop_stop(loop_main());
}

HOME_LOOP
static void time_is_over(void *opaque)
{
    log_error("giving up: shutdown has not ended in time");
    fflush(NULL);
    os_exit(DAEMON_FAILED);
}

MAIN_LOOP
static void begin_to_quit(struct daemon *daemon)
{
    loop_assert_home(loop_main());
    daemon->is_quitting = true;
    daemon->deadline_ns =
        loop_now_ns(LOOP_CLOCK_MONOTONIC) + daemon->settings.shutdown_timeout_ns;
    loop_timer_arm(&daemon->last_exit, daemon->deadline_ns + grace_ns);
    qmp_refuse_commands("the daemon is shutting down");
    chardevs_abort(&daemon->chardevs);
    if (daemon->is_started) {
        loop_co_spawn(loop_main(), shut_down, daemon, "quit"); /* else start-up does, (M1) */
    }
}

void daemon_quit(const char *why)
{
    if (!the_daemon->is_quitting) {
        log_info("shutting down: %s", why);
        begin_to_quit(the_daemon);
    }
}

HOME_LOOP
static void take_signal(void *opaque, unsigned events)
{
    struct daemon *daemon = opaque;
    int number;

    loop_assert_main();
    while ((number = os_signal_next(daemon->signal_fd)) != 0) {
        if (daemon->is_quitting) {
            log_error("signal %d: leaving at once", number);
            os_exit(128 + number);
        }
        daemon_quit(number == OS_SIGTERM ? "SIGTERM" : number == OS_SIGINT ? "SIGINT" : "SIGHUP");
    }
}

static const struct loop_watch_ops signal_ops = {.ready = take_signal};

/* ---- the start ---- */

MAIN_LOOP CO_FN
static int carry_out(struct daemon *daemon, const struct daemon_arg *arg, struct err **reterr)
{
    switch (arg->option) {
    case DAEMON_OBJECT:
        return objects_co_add(arg->object, arg->flags, reterr);
    case DAEMON_BLOCKDEV:
        return blk_node_co_add(arg->object, arg->flags, reterr);
    case DAEMON_CHARDEV:
        return chardevs_co_add(&daemon->chardevs, arg->object, arg->flags, reterr);
    case DAEMON_MONITOR:
        return chardevs_add_monitor(&daemon->chardevs, arg->object, arg->flags, reterr);
    case DAEMON_EXPORT:
        return export_co_add(arg->object, arg->flags, reterr);
    case DAEMON_DEVICE:
        return device_co_add(arg->object, arg->flags, reterr);
    case DAEMON_PIDFILE:
    case DAEMON_DAEMONIZE:
    case DAEMON_TRACE:
    case DAEMON_LOG_LEVEL:
    case DAEMON_SHUTDOWN_TIMEOUT:
    case DAEMON_VERSION:
    case DAEMON_HELP:
    case DAEMON_OPTION_MAX_:
    default:
        unreachable(); /* never in the list */
    }
}

MAIN_LOOP CO_FN
static int carry_out_all(struct daemon *daemon, struct err **reterr)
{
    struct daemon_arg *arg;

    list_for_each(arg, &daemon->settings.args, link)
    {
        int rc = carry_out(daemon, arg, reterr);

        if (rc < 0) {
            err_prepend(reterr, "--%s %s: ", daemon_option_name(arg->option), arg->text);
            return rc;
        }
        if (daemon->is_quitting) {
            return 0; /* (M1) */
        }
    }
    return 0;
}

/* What is done once, when all have succeeded; in the worker pool, for files may be slow. */
struct completion {
    struct daemon *daemon;
    struct err *error;
};

BLOCKING
static int64_t complete_start(void *opaque)
{
    struct completion *completion = opaque;
    struct daemon *daemon = completion->daemon;
    const char *path = daemon->settings.pidfile;

    if (path != NULL) {
        int rc = os_pidfile_write(path, &completion->error);

        if (rc < 0) {
            return rc;
        }
        daemon->pidfile = os_path_absolute(path);
    }
    if (daemon->settings.daemonize) {
        os_daemonize_ready(DAEMON_OK);
    }
    return 0;
}

MAIN_LOOP CO_FN
static int start(struct daemon *daemon, struct err **reterr)
{
    struct completion completion = {.daemon = daemon};
    int rc = carry_out_all(daemon, reterr);

    if (rc < 0 || daemon->is_quitting) {
        return rc;
    }
    rc = (int)pool_co_call(NULL, complete_start, &completion);
    err_propagate(reterr, completion.error);
    if (rc == 0 && !daemon->is_quitting) {
        export_hold_doors(false); /* (M2) */
        chardevs_accept(&daemon->chardevs);
    }
    return rc;
}

CO_FN
static void start_up(void *opaque)
{
    struct daemon *daemon = opaque;
    struct err *error = NULL;

    loop_assert_main();
    if (start(daemon, &error) < 0 && !daemon->is_quitting) {
        fprintf(stderr, "caisson: %s\n", error->text);
        daemon->exit_status = DAEMON_FAILED;
        begin_to_quit(daemon); /* (M3) */
    }
    err_free(error);
    daemon->is_started = true;
    if (daemon->is_quitting) {
        loop_co_spawn(loop_main(), shut_down, daemon, "quit");
    }
}

/* ---- before and after the loop ---- */

static void set_tables(void)
{
    static const struct blk_driver *const drivers[] = {&blk_driver_file, &blk_driver_null_co,
                                                       &blk_driver_raw};
    static const struct export_type *const export_types[] = {&vhost_user_scsi_export_type};

    loop_assert_main();
    blk_drivers_set(drivers, countof(drivers));
    export_types_set(export_types, countof(export_types));
    qmp_set_tables(daemon_commands, daemon_command_count, daemon_events, daemon_event_count,
                   CAISSON_VERSION, "caisson");
}

static int watch_signals(struct daemon *daemon)
{
    static const int numbers[] = {OS_SIGTERM, OS_SIGINT, OS_SIGHUP};

    loop_assert_home(loop_main());
    os_signal_ignore(OS_SIGPIPE);
    daemon->signal_fd = os_signal_fd(numbers, countof(numbers));
    return daemon->signal_fd < 0
               ? daemon->signal_fd
               : loop_watch_add(&daemon->signals, daemon->signal_fd, LOOP_IN, &signal_ops, daemon);
}

BLOCKING
static void run_main_loop(struct daemon *daemon)
{
    int rc = watch_signals(daemon);

    if (rc < 0) {
        panic("signals: %s", strerror(-rc));
    }
    loop_assert_main();
    loop_assert_home(loop_main());
    chardevs_init(&daemon->chardevs);
    export_hold_doors(true); /* (M2) */
    loop_timer_init(&daemon->last_exit, LOOP_CLOCK_MONOTONIC, time_is_over, daemon);
    loop_co_spawn(loop_main(), start_up, daemon, "start-up");
    loop_run(loop_main());
    loop_timer_cancel(&daemon->last_exit);
    loop_watch_remove(&daemon->signals);
    os_close_now(daemon->signal_fd);
    chardevs_fini(&daemon->chardevs);
    if (daemon->pidfile != NULL) {
        (void)os_unlink(daemon->pidfile);
        mem_free(daemon->pidfile);
    }
}

static int print_help(const struct daemon_arg *arg)
{
    struct strbuf text = {0};
    struct err *error = NULL;
    int rc;

    loop_assert_main();
    rc = daemon_help(arg, &text, &error);
    if (rc < 0) {
        fprintf(stderr, "caisson: %s\n", error->text);
        err_free(error);
    } else {
        fputs(text.text != NULL ? text.text : "", stdout);
    }
    strbuf_fini(&text);
    return rc < 0 ? DAEMON_FAILED : DAEMON_OK;
}

BLOCKING
static int run_with_loop(struct daemon *daemon)
{
    const struct loop_config config = {.name = "main"};
    struct err *error = NULL;

    asym_init();
    rcu_thread_register();
    if (loop_new(&config, &error) == NULL) {
        fprintf(stderr, "caisson: %s\n", error->text);
        err_free(error);
        return DAEMON_FAILED;
    }
    set_tables();
    if (daemon->settings.help != NULL) {
        daemon->exit_status = print_help(daemon->settings.help);
    } else {
        the_daemon = daemon;
        run_main_loop(daemon);
        the_daemon = NULL;
    }
    event_set_sink(NULL, NULL);
    rcu_barrier_wait(); /* what was freed may schedule a last bottom half */
    loop_assert_main();
    loop_assert_home(loop_main());
    blk_fini();
    while (loop_poll(loop_main(), false)) {
    }
    if (loop_free(loop_main(), &error) < 0) {
        log_error("%s", error->text);
        err_free(error);
        daemon->exit_status = DAEMON_FAILED;
    }
    pool_stop();
    co_pool_release();
    rcu_thread_unregister();
    return daemon->exit_status;
}

BLOCKING
static int run_in_background_or_not(struct daemon *daemon)
{
    struct err *error = NULL;

    if (daemon->settings.daemonize && daemon->settings.help == NULL &&
        os_daemonize_begin(&error) < 0) {
        fprintf(stderr, "caisson: %s\n", error->text);
        err_free(error);
        return DAEMON_FAILED;
    }
    os_raise_fd_limit();
    return run_with_loop(daemon);
}

static void print_usage(void)
{
    struct strbuf text = {0};

    daemon_usage(&text);
    fputs(text.text, stdout);
    strbuf_fini(&text);
}

int cli_daemon_main(int argc, char **argv)
{
    struct daemon daemon = {.exit_status = DAEMON_OK};
    struct err *error = NULL;
    int status = DAEMON_OK;

    if (daemon_settings_parse(&daemon.settings, argc, argv, &error) < 0) {
        fprintf(stderr, "caisson: %s\n", error->text);
        err_free(error);
        return DAEMON_FAILED;
    }
    if (daemon.settings.wants_help) {
        print_usage();
    } else if (daemon.settings.wants_version) {
        printf("caisson %s\n", CAISSON_VERSION);
    } else {
        status = run_in_background_or_not(&daemon);
    }
    daemon_settings_fini(&daemon.settings);
    return status;
}
