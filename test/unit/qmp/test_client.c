/*
 * test_client.c -- connections against made-up commands: order, out of band, limits, half-closes,
 * events, what malformed input is answered.
 *
 * Each test is a coroutine on a real main loop; its clients are the other ends of socket pairs.
 */
#include "base/jsontext.h"
#include "base/mem.h"
#include "base/str.h"
#include "co/lock.h"
#include "loop/loop.h"
#include "os/file.h"
#include "os/socket.h"
#include "qmp/qmp.h"
#include "sync/asym.h"
#include "sync/rcu.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- made-up commands --------------------------------------------------------------------- */

struct echo_values {
    char *text;
    uint32_t times;
};
static const struct opt echo_opts[] = {
    {.name = "text", .type = OPT_STR, .flags = OPT_REQUIRED, OPT_AT(struct echo_values, text)},
    {.name = "times", .type = OPT_U32, OPT_AT(struct echo_values, times), .dflt = "1"},
};
static const struct opt_table echo_table = {.name = "echo", .opts = echo_opts,
                                            .count = countof(echo_opts),
                                            .values_bytes = sizeof(struct echo_values)};

CO_FN
static int run_echo(const void *values, json_t **ret_value, struct err **reterr)
{
    const struct echo_values *v = values;

    *ret_value = json_array();
    for (uint32_t i = 0; i < v->times; i++) {
        json_array_append_new(*ret_value, json_string(v->text));
    }
    return 0;
}

static struct co_queue held = {LIST_INIT(held.waiters)};
static unsigned held_count, finished;

CO_FN
static int run_hold(const void *values, json_t **ret_value, struct err **reterr)
{
    held_count++;
    co_queue_wait(&held, NULL);
    held_count--;
    finished++;
    return 0;
}

CO_FN
static int run_now(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = json_integer(42);
    return 0;
}

CO_FN
static int run_fail(const void *values, json_t **ret_value, struct err **reterr)
{
    return err_set_class(reterr, ERR_DEVICE_NOT_FOUND, ENOENT, "Device 'x' not found");
}

CO_FN
static int run_free(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = json_incref((json_t *)(uintptr_t)values);
    return 0;
}

static const struct qmp_command echo_command = {.name = "echo", .arguments = &echo_table,
                                                .co_run = run_echo};
static const struct qmp_command hold_command = {.name = "hold", .co_run = run_hold};
static const struct qmp_command hold_oob_command = {.name = "hold-oob", .flags = QMP_AT_ONCE,
                                                    .co_run = run_hold};
static const struct qmp_command now_command = {.name = "now", .flags = QMP_AT_ONCE,
                                               .co_run = run_now};
static const struct qmp_command fail_command = {.name = "fail", .co_run = run_fail};
static const struct qmp_command free_command = {.name = "free", .flags = QMP_FREE_FORM,
                                                .co_run = run_free};
static const struct qmp_command *const commands[] = {&echo_command, &hold_command,
                                                     &hold_oob_command, &now_command,
                                                     &fail_command, &free_command};

static const struct event_def bang_event = {.name = "BANG", .since = "0.1", .help = "a test's"};
static const struct event_def *const events[] = {&bang_event};

/* ---- a client ----------------------------------------------------------------------------- */

struct peer {
    int fd;
    struct jsontext input;
    char buffer[4096];
    size_t at, have;
};

CO_FN
static void peer_send(struct peer *peer, const char *text)
{
    size_t bytes = strlen(text);

    while (bytes > 0) {
        struct iovec iov = {(void *)(uintptr_t)text, bytes};
        ssize_t sent = os_send(peer->fd, &iov, 1, NULL, 0);

        if (sent == -EAGAIN) {
            assert_true(loop_co_wait_fd(peer->fd, LOOP_OUT, 0) > 0);
        } else {
            assert_true(sent > 0);
            text += sent;
            bytes -= (size_t)sent;
        }
    }
}

/* The next message; NULL: the daemon has closed, or said nothing for @patience_ms. */
CO_FN
static json_t *peer_receive_within(struct peer *peer, unsigned patience_ms)
{
    uint64_t deadline = loop_now_ns(LOOP_CLOCK_MONOTONIC) + patience_ms * 1000000ULL;

    for (;;) {
        json_t *message = NULL;
        struct err *error = NULL;
        int fds[OS_SOCKET_FDS_MAX], fd_count;
        ssize_t got;

        peer->at += jsontext_feed(&peer->input, peer->buffer + peer->at, peer->have - peer->at,
                                  &message, &error);
        assert_null(error);
        if (message != NULL) {
            return message;
        }
        got = os_receive(peer->fd, peer->buffer, sizeof(peer->buffer), fds, &fd_count);
        if (got == -EAGAIN) {
            if (loop_co_wait_fd(peer->fd, LOOP_IN, deadline) < 0) {
                return NULL;
            }
            got = 0;
        } else if (got <= 0) {
            return NULL;
        }
        peer->at = 0;
        peer->have = (size_t)got;
    }
}

CO_FN
static json_t *peer_receive(struct peer *peer)
{
    return peer_receive_within(peer, 5000);
}

static struct peer *peer_new_raw(void)
{
    struct peer *peer = mem_new(struct peer);
    int fds[2];

    assert_int_equal(os_socketpair(fds), 0);
    peer->fd = fds[0];
    peer->input.bytes_max = 100 << 20;
    loop_assert_main();
    qmp_client_new(fds[1], false);
    return peer;
}

CO_FN
static void expect(struct peer *peer, const char *wanted)
{
    json_t *message = peer_receive(peer);
    char *text = message != NULL ? json_dumps(message, JSON_SORT_KEYS) : NULL;

    if (!str_equal(text, wanted)) {
        fail_msg("wanted %s\n   found %s", wanted, text);
    }
    free(text);
    json_decref(message);
}

CO_FN
static void expect_silence(struct peer *peer)
{
    assert_null(peer_receive_within(peer, 30));
}

CO_FN
static void expect_greeting(struct peer *peer)
{
    expect(peer, "{\"QMP\": {\"capabilities\": [\"oob\"], \"version\": {\"package\": \"test\", "
                 "\"qemu\": {\"major\": 1, \"micro\": 3, \"minor\": 2}}}}");
}

CO_FN
static struct peer *peer_new(bool oob)
{
    struct peer *peer = peer_new_raw();

    expect_greeting(peer);
    peer_send(peer, oob ? "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
                        : "{'execute':'qmp_capabilities'}");
    expect(peer, "{\"return\": {}}");
    return peer;
}

static void peer_free(struct peer *peer)
{
    os_close_now(peer->fd);
    jsontext_fini(&peer->input);
    mem_free(peer);
}

/* ---- tests -------------------------------------------------------------------------------- */

#define ERROR_(class, desc) "{\"error\": {\"class\": \"" class "\", \"desc\": \"" desc "\"}}"
#define ERROR_ID(class, desc, id)                                                                  \
    "{\"error\": {\"class\": \"" class "\", \"desc\": \"" desc "\"}, \"id\": " id "}"

static const struct {
    const char *input, *reply;
} negotiation_table[] = {
    {"{\"execute\":\"now\",\"id\":1}",
     ERROR_ID("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'",
              "1")},
    {"{\"execute\":\"nope\"}",
     ERROR_("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'")},
    {"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"foo\"]}}",
     ERROR_("GenericError", "Parameter 'enable[0]' does not accept value 'foo', only 'oob'")},
    {"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":1}}",
     ERROR_("GenericError", "Invalid parameter type for 'enable', expected: string or array")},
    {"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"x\":1}}",
     ERROR_("GenericError", "Parameter 'x' is unexpected")},
    {"{", NULL},
    {"}}", ERROR_("GenericError", "JSON parse error, unexpected token near '}'")},
    {"{\"execute\":\"qmp_capabilities\",\"id\":\"z\"}", "{\"id\": \"z\", \"return\": {}}"},
    {"{\"execute\":\"qmp_capabilities\"}",
     ERROR_("CommandNotFound", "Capabilities negotiation is already complete, command ignored")},
};

CO_FN
static void test_negotiation(void)
{
    struct peer *peer = peer_new_raw();

    loop_assert_main();
    expect_greeting(peer);
    event_emit(&bang_event, NULL); /* not told before negotiation is over */
    for (size_t i = 0; i < countof(negotiation_table); i++) {
        if (strcmp(negotiation_table[i].input, "}}") == 0) {
            peer_send(peer, "}"); /* ends the '{' of the row above: "{}" lacks 'execute' */
            expect(peer, ERROR_("GenericError", "QMP input lacks member 'execute'"));
            continue;
        }
        peer_send(peer, negotiation_table[i].input);
        if (negotiation_table[i].reply != NULL) {
            expect(peer, negotiation_table[i].reply);
        }
    }
    peer_free(peer);
}

static const struct {
    const char *input, *reply;
} request_table[] = {
    {"{\"execute\":\"now\",\"id\":{\"a\":[null]}}", "{\"id\": {\"a\": [null]}, \"return\": 42}"},
    {"{\"execute\":\"nope\",\"id\":7}",
     ERROR_ID("CommandNotFound", "The command nope has not been found", "7")},
    {"{\"execute\":1}", ERROR_("GenericError", "QMP input member 'execute' must be a string")},
    {"{\"foo\":1}", ERROR_("GenericError", "QMP input member 'foo' is unexpected")},
    {"{\"execute\":\"now\",\"foo\":1}",
     ERROR_("GenericError", "QMP input member 'foo' is unexpected")},
    {"{\"arguments\":{}}", ERROR_("GenericError", "QMP input lacks member 'execute'")},
    {"{\"execute\":\"now\",\"arguments\":[]}",
     ERROR_("GenericError", "QMP input member 'arguments' must be an object")},
    {"{\"execute\":\"now\",\"arguments\":{\"x\":1}}",
     ERROR_("GenericError", "Parameter 'x' is unexpected")},
    {"[1]", ERROR_("GenericError", "QMP input must be a JSON object")},
    {"12 ", ERROR_("GenericError", "QMP input must be a JSON object")},
    {"foo\n", ERROR_("GenericError", "JSON parse error, invalid token near 'foo'")},
    {"{\"a\":}", ERROR_("GenericError", "JSON parse error, unexpected token near '}'")},
    {"}", ERROR_("GenericError", "JSON parse error, closing bracket without an opening one")},
    {"{\"a\":\"x\n", ERROR_("GenericError", "JSON parse error, control character in a string")},
    {"{\"half\xff{\"execute\":\"now\"}",
     ERROR_("GenericError", "JSON parse error, byte that UTF-8 never has")},
    {"", "{\"return\": 42}"}, /* what followed the reset */
    {"{\"exec-oob\":\"now\"}", ERROR_("GenericError", "QMP input member 'exec-oob' is unexpected")},
    {"{\"execute\":\"fail\"}", ERROR_("DeviceNotFound", "Device 'x' not found")},
    {"{\"execute\":\"echo\"}", ERROR_("GenericError", "Parameter 'text' is missing")},
    {"{\"execute\":\"echo\",\"arguments\":{\"text\":1}}",
     ERROR_("GenericError", "Invalid parameter type for 'text', expected: string, found: integer")},
    {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\",\"time\":2}}",
     ERROR_("GenericError", "Parameter 'time' is unexpected; did you mean 'times'?")},
    {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\",\"times\":2}}",
     "{\"return\": [\"a\", \"a\"]}"},
    {"{\"execute\":\"free\",\"arguments\":{\"any\":{\"b\":1}}}",
     "{\"return\": {\"any\": {\"b\": 1}}}"},
    {"{\"execute\":\"free\"}", "{\"return\": {}}"},
    {"{\"execute\":\"query-version\"}", "{\"return\": {\"package\": \"test\", \"qemu\": "
                                        "{\"major\": 1, \"micro\": 3, \"minor\": 2}}}"},
};

CO_FN
static void test_requests(void)
{
    struct peer *peer = peer_new(false);

    for (size_t i = 0; i < countof(request_table); i++) {
        peer_send(peer, request_table[i].input);
        expect(peer, request_table[i].reply);
    }
    peer_free(peer);
}

CO_FN
static void test_order_within_and_independence_between(void)
{
    struct peer *a = peer_new(false);
    struct peer *b = peer_new(false);

    loop_assert_main();
    peer_send(
        a, "{'execute':'hold','id':1}{'execute':'now','id':2}{nonsense}{'execute':'now','id':3}");
    peer_send(b, "{'execute':'now','id':9}");
    expect(b, "{\"id\": 9, \"return\": 42}");
    expect_silence(a); /* (Q1): 2 and 3 wait behind 1 */
    assert_int_equal(qmp_running_commands(), 1);
    co_queue_wake_all(&held);
    expect(a, "{\"id\": 1, \"return\": {}}");
    expect(a, "{\"id\": 2, \"return\": 42}");
    expect(a, ERROR_("GenericError", "JSON parse error, string or '}' expected near 'nonsense'"));
    expect(a, "{\"id\": 3, \"return\": 42}");
    peer_free(a);
    peer_free(b);
}

CO_FN
static void test_out_of_band(void)
{
    struct peer *peer = peer_new(true);

    peer_send(peer, "{'execute':'hold','id':1}{'exec-oob':'now','id':2}"
                    "{'exec-oob':'echo','id':3}{'exec-oob':'now','execute':'now','id':4}");
    expect(peer, "{\"id\": 2, \"return\": 42}");
    expect(peer, ERROR_ID("GenericError", "The command echo does not support OOB", "3"));
    expect(peer,
           ERROR_ID("GenericError", "QMP input member 'execute' clashes with 'exec-oob'", "4"));
    co_queue_wake_all(&held);
    expect(peer, "{\"id\": 1, \"return\": {}}");
    peer_free(peer);
}

/* (K4): what is read ahead is bounded; nothing of it is lost. */
CO_FN
static void test_a_flood_waits_in_its_socket(void)
{
    struct peer *peer = peer_new(true);
    struct peer *oob = peer_new(true);

    peer_send(peer, "{'execute':'hold'}");
    for (int i = 0; i < 100; i++) {
        AUTO_MEM char *text = str_format("{'execute':'now','id':%d}", i);

        peer_send(peer, text);
    }
    peer_send(peer, "{'exec-oob':'now','id':'late'}"); /* behind the flood: it waits as well */
    expect_silence(peer);
    co_queue_wake_all(&held);
    expect(peer, "{\"return\": {}}");
    for (int i = 0; i < 100; i++) {
        AUTO_MEM char *text = str_format("{\"id\": %d, \"return\": 42}", i);

        expect(peer, text);
    }
    expect(peer, "{\"id\": \"late\", \"return\": 42}");

    for (int i = 0; i < QMP_OOB_MAX + 3; i++) {
        peer_send(oob, "{'exec-oob':'hold-oob'}");
    }
    expect_silence(oob);
    assert_int_equal(held_count, QMP_OOB_MAX);
    while (held_count > 0) {
        co_queue_wake_all(&held);
        loop_co_sleep(1000000);
    }
    for (int i = 0; i < QMP_OOB_MAX + 3; i++) {
        expect(oob, "{\"return\": {}}");
    }
    peer_free(oob);
    peer_free(peer);
}

CO_FN
static void test_events_reach_all_past_negotiation(void)
{
    struct peer *a = peer_new(false);
    struct peer *b = peer_new(false);
    struct peer *raw = peer_new_raw();

    loop_assert_main();
    expect_greeting(raw);
    event_emit(&bang_event, json_pack("{s:s}", "device", "d"));
    for (int i = 0; i < 2; i++) {
        json_t *event = peer_receive(i == 0 ? a : b);
        json_t *stamp = json_object_get(event, "timestamp");

        assert_string_equal(json_string_value(json_object_get(event, "event")), "BANG");
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(event, "data"), "device")), "d");
        assert_true(json_integer_value(json_object_get(stamp, "seconds")) > 1000000000);
        assert_in_range(json_integer_value(json_object_get(stamp, "microseconds")), 0, 999999);
        json_decref(event);
    }
    expect_silence(raw);
    peer_free(a);
    peer_free(b);
    peer_free(raw);
}

/* (K3): the sender of "…; EOF" still gets its answers, in order. */
CO_FN
static void test_half_a_close_is_answered(void)
{
    struct peer *peer = peer_new(false);

    loop_assert_main();
    peer_send(peer, "{'execute':'hold','id':1}{'execute':'now','id':2}");
    assert_int_equal(shutdown(peer->fd, SHUT_WR), 0);
    expect_silence(peer);
    co_queue_wake_all(&held);
    expect(peer, "{\"id\": 1, \"return\": {}}");
    expect(peer, "{\"id\": 2, \"return\": 42}");
    assert_null(peer_receive(peer));
    peer_free(peer);
}

CO_FN
static void test_a_vanished_client_harms_nobody(void)
{
    struct peer *peer = peer_new(false);
    unsigned before = finished;

    loop_assert_main();
    peer_send(peer, "{'execute':'hold'}{'execute':'hold'}");
    loop_co_sleep(20000000);
    peer_free(peer);
    event_emit(&bang_event, NULL);
    while (finished < before + 2) {
        co_queue_wake_all(&held);
        loop_co_sleep(1000000);
    }
    assert_int_equal(qmp_running_commands(), 0);
}

CO_FN
static void test_clients_are_counted(void)
{
    static struct peer *peers[QMP_CLIENTS_MAX];
    struct peer *extra;

    for (int i = 0; i < QMP_CLIENTS_MAX; i++) {
        peers[i] = peer_new_raw();
    }
    extra = peer_new_raw();
    expect(extra, ERROR_("GenericError",
                         "The control socket has 64 clients already, as many as it serves"));
    assert_null(peer_receive(extra));
    peer_free(extra);
    peer_free(peers[0]);
    loop_co_sleep(20000000);
    peers[0] = peer_new(false); /* a place is free again */
    for (int i = 0; i < QMP_CLIENTS_MAX; i++) {
        peer_free(peers[i]);
    }
}

CO_FN
static void test_limits_of_a_message(void)
{
    struct peer *peer = peer_new(false);
    struct strbuf big = {0};

    strbuf_addf(&big, "{'execute':'echo','arguments':{'text':'");
    while (big.bytes < QMP_MESSAGE_BYTES_MAX - 3) {
        strbuf_add(&big, "x", 1);
    }
    strbuf_add(&big, "'}}", 3); /* exactly the limit */
    peer_send(peer, big.text);
    json_decref(peer_receive(peer));
    big.bytes -= 3;
    strbuf_add(&big, "x'}}", 4);
    peer_send(peer, big.text);
    expect(peer,
           ERROR_("GenericError", "JSON parse error, message of too many bytes, at most 1048576 "
                                  "are allowed"));
    peer_send(peer, "{'execute':'now'}");
    expect(peer, "{\"return\": 42}");
    big.bytes = 0;
    for (int i = 0; i < 65; i++) {
        strbuf_addf(&big, "{'a':");
    }
    strbuf_addf(&big, "1");
    for (int i = 0; i < 65; i++) {
        strbuf_addf(&big, "}");
    }
    peer_send(peer, big.text);
    expect(peer,
           ERROR_("GenericError", "JSON parse error, too many levels of nesting, at most 64 are "
                                  "allowed"));
    strbuf_fini(&big);
    peer_free(peer);
}

/* Output nobody reads is kept up to the limit; then the client is dropped and the others go on. */
CO_FN
static void test_unread_output_is_bounded(void)
{
    struct peer *sleeper = peer_new(false);
    struct peer *other = peer_new(false);
    AUTO_MEM char *text = mem_alloc((4 << 20) + 1);

    loop_assert_main();
    memset(text, 'x', 4 << 20);
    for (int i = 0; i < 17; i++) {
        event_emit(&bang_event, json_pack("{s:s}", "text", text));
        for (;;) { /* the other one reads along */
            json_t *event = peer_receive(other);

            assert_non_null(event);
            json_decref(event);
            break;
        }
    }
    peer_send(other, "{'execute':'now'}");
    expect(other, "{\"return\": 42}");
    loop_co_sleep(20000000);
    {
        struct iovec iov = {(void *)(uintptr_t) "{}", 2};

        assert_true(os_send(sleeper->fd, &iov, 1, NULL, 0) < 0); /* EPIPE: dropped */
    }
    peer_free(sleeper);
    peer_free(other);
}

CO_FN
static void test_refusing_commands(void)
{
    struct peer *peer = peer_new(false);

    loop_assert_main();
    qmp_refuse_commands("the daemon is shutting down");
    peer_send(peer, "{'execute':'fail'}{'execute':'now'}");
    expect(peer, ERROR_("GenericError",
                        "The command fail is not accepted: the daemon is shutting down"));
    expect(peer, "{\"return\": 42}");
    qmp_refuse_commands(NULL);
    peer_free(peer);
}

CO_FN
static void wake_soon(void *opaque)
{
    loop_co_sleep(30000000);
    co_queue_wake_all(&held);
}

CO_FN
static void test_closing_all_waits_for_commands_and_output(void)
{
    struct peer *peer = peer_new(false);
    struct peer *stuck = peer_new(false);

    loop_assert_main();
    peer_send(peer, "{'execute':'hold'}");
    loop_co_sleep(10000000);
    loop_co_spawn(loop_main(), wake_soon, NULL, "wake");
    assert_int_equal(qmp_co_close_all(0), 0);
    expect(peer, "{\"return\": {}}");
    assert_null(peer_receive(peer));
    assert_null(peer_receive(stuck));
    peer_free(peer);
    peer_free(stuck);

    peer = peer_new(false);
    peer_send(peer, "{'execute':'hold'}");
    loop_co_sleep(10000000);
    assert_int_equal(qmp_co_close_all(loop_now_ns(LOOP_CLOCK_MONOTONIC) + 20000000), 1);
    assert_null(peer_receive(peer));
    co_queue_wake_all(&held);
    loop_co_sleep(10000000);
    assert_int_equal(qmp_running_commands(), 0);
    peer_free(peer);
}

CO_FN
static void test_execute_without_a_connection(void)
{
    json_t *request = json_pack("{s:s,s:i}", "execute", "now", "id", 1);
    json_t *reply;

    loop_assert_main();
    reply = qmp_co_execute(request);
    assert_int_equal(json_integer_value(json_object_get(reply, "return")), 42);
    assert_int_equal(json_integer_value(json_object_get(reply, "id")), 1);
    json_decref(reply);
    json_decref(request);
}

CO_FN
static void test_a_listening_socket(void)
{
    static const char path[] = "test_qmp_client.sock";
    int fd = os_listen_unix(path, 8);
    struct qmp_server *server;
    struct peer *peers[3];

    loop_assert_main();
    assert_true(fd >= 0);
    server = qmp_server_new(fd, true);
    for (int i = 0; i < 3; i++) {
        peers[i] = mem_new(struct peer);
        peers[i]->input.bytes_max = 100000;
        peers[i]->fd = os_connect_unix(path);
        assert_true(peers[i]->fd >= 0);
    }
    for (int i = 0; i < 3; i++) {
        expect_greeting(peers[i]);
    }
    qmp_server_free(server);
    loop_co_sleep(10000000); /* the engine lets go of the socket a little later */
    assert_true(os_connect_unix(path) < 0);
    peer_send(peers[0], "{'execute':'qmp_capabilities'}"); /* stays connected */
    expect(peers[0], "{\"return\": {}}");
    for (int i = 0; i < 3; i++) {
        peer_free(peers[i]);
    }
    assert_int_equal(unlink(path), 0);
}

/* ---- running a test as a coroutine --------------------------------------------------------- */

CO_FN
static void run_in_coroutine(void *opaque)
{
    void (*body)(void) = *(void (**)(void))opaque;

    body();
    loop_co_sleep(20000000); /* connections that were closed are freed */
    loop_stop(loop_self());
}

static void run_body(void **state)
{
    struct loop *loop = loop_main();

    loop_co_spawn(loop, run_in_coroutine, state, "test");
    loop_run(loop);
    assert_int_equal(held_count, 0);
}

static int set_up(void **state)
{
    const struct loop_config config = {.name = "main"};

    asym_init();
    rcu_thread_register();
    assert_non_null(loop_new(&config, NULL));
    loop_assert_main();
    qmp_set_tables(commands, countof(commands), events, countof(events), "1.2.3", "test");
    return 0;
}

static int tear_down(void **state)
{
    struct err *error = NULL;

    loop_assert_home(loop_main());
    if (loop_free(loop_main(), &error) < 0) { /* names what was left behind */
        print_error("%s\n", error->text);
        return -1;
    }
    return 0;
}

#define TEST(name) {#name, run_body, NULL, NULL, (void *)(uintptr_t)name}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_negotiation),
        TEST(test_requests),
        TEST(test_order_within_and_independence_between),
        TEST(test_out_of_band),
        TEST(test_a_flood_waits_in_its_socket),
        TEST(test_events_reach_all_past_negotiation),
        TEST(test_half_a_close_is_answered),
        TEST(test_a_vanished_client_harms_nobody),
        TEST(test_clients_are_counted),
        TEST(test_limits_of_a_message),
        TEST(test_unread_output_is_bounded),
        TEST(test_refusing_commands),
        TEST(test_closing_all_waits_for_commands_and_output),
        TEST(test_execute_without_a_connection),
        TEST(test_a_listening_socket),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
