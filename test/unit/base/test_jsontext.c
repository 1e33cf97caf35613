/* test_jsontext.c -- messages cut out of a stream, however it arrives. */
#include "base/jsontext.h"
#include "base/mem.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Feed @stream in pieces of @piece bytes; each message or error becomes one line. */
static void run(const char *stream, size_t piece, size_t bytes_max, struct strbuf *to)
{
    struct jsontext scanner = {.bytes_max = bytes_max};
    size_t bytes = strlen(stream);
    size_t at = 0;

    strbuf_add(to, "", 0);
    while (at < bytes) {
        struct err *error = NULL;
        json_t *value = NULL;
        size_t given = min_of(piece, bytes - at);
        size_t used = jsontext_feed(&scanner, stream + at, given, &value, &error);

        assert_true(used <= given);
        assert_true(used == given || value != NULL || error != NULL);
        at += used;
        if (value != NULL) {
            char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

            strbuf_addf(to, "%s\n", text);
            free(text);
            json_decref(value);
        } else if (error != NULL) {
            strbuf_addf(to, "! %s\n", error->text);
            err_free(error);
        }
    }
    jsontext_fini(&scanner);
}

struct row {
    const char *stream, *lines;
};
static const struct row table[] = {
    {"", ""},
    {"  \r\n ", ""},
    {"{}{}", "{}\n{}\n"},
    {"{\"a\":\n1}\n", "{\"a\":1}\n"},
    {"{\"a\":\"}{\\\"]\"} {\"b\":[1,2]}", "{\"a\":\"}{\\\"]\"}\n{\"b\":[1,2]}\n"},
    {"{'a': 'it\\'s \"x\"'}", "{\"a\":\"it's \\\"x\\\"\"}\n"},
    {"{\"a\": \"it\\'s\"}", "{\"a\":\"it's\"}\n"},
    {"\"word\" {}", "\"word\"\n{}\n"},
    {"'word'{}", "\"word\"\n{}\n"},
    {"12 [1]", "12\n[1]\n"},
    {"12[1]", "12\n[1]\n"},
    {"foo\n{}", "! JSON parse error, invalid token near 'foo'\n{}\n"},
    {"}{}", "! JSON parse error, closing bracket without an opening one\n{}\n"},
    {"{]}{}", "! JSON parse error, closing bracket of the wrong kind\n"
              "! JSON parse error, closing bracket without an opening one\n{}\n"},
    {"{\"a\": \"x\n{}", "! JSON parse error, control character in a string\n{}\n"},
    {"{\"a\": \xff{}", "! JSON parse error, byte that UTF-8 never has\n{}\n"},
    {"{\"a\": \"\xff{}", "! JSON parse error, byte that UTF-8 never has\n{}\n"},
    {"{\"a\":}{}", "! JSON parse error, unexpected token near '}'\n{}\n"},
    {"{\"a\":1,\"a\":2}{}", "! JSON parse error, duplicate object key near '\"a\"'\n{}\n"},
    {"{\"a\":99999999999999999999}{}",
     "! JSON parse error, too big integer near '99999999999999999999'\n{}\n"},
    {"{\"a\":\"\xc3\"}{}", NULL}, /* broken UTF-8: an error, in jansson's words */
};

static void any_cut_gives_the_same_messages(void **state)
{
    for (size_t i = 0; i < countof(table); i++) {
        for (size_t piece = 1; piece < 12; piece++) {
            struct strbuf found = {0};

            run(table[i].stream, piece, 1000, &found);
            if (table[i].lines != NULL) {
                assert_string_equal(found.text, table[i].lines);
            } else {
                assert_true(found.text[0] == '!' && strstr(found.text, "\n{}\n") != NULL);
            }
            strbuf_fini(&found);
        }
    }
}

static void nesting_is_bounded_and_said_once(void **state)
{
    struct strbuf stream = {0};
    struct strbuf found = {0};

    for (int i = 0; i < JSONTEXT_NESTING_MAX; i++) {
        strbuf_add(&stream, "[", 1);
    }
    for (int i = 0; i < JSONTEXT_NESTING_MAX; i++) {
        strbuf_add(&stream, "]", 1);
    }
    run(stream.text, 7, 1000, &found);
    assert_true(found.text[0] == '[');
    found.bytes = stream.bytes = 0;
    for (int i = 0; i < 5000; i++) {
        strbuf_add(&stream, "[", 1);
    }
    for (int i = 0; i < 5000; i++) {
        strbuf_add(&stream, "]", 1);
    }
    strbuf_add(&stream, "{}", 2);
    run(stream.text, 7, 1000000, &found);
    assert_string_equal(
        found.text, "! JSON parse error, too many levels of nesting, at most 64 are allowed\n{}\n");
    strbuf_fini(&found);
    strbuf_fini(&stream);
}

static void size_is_bounded_and_the_rest_swallowed(void **state)
{
    struct strbuf found = {0};

    run("{\"a\":\"0123456789\",\"b\":[{}]} {}", 3, 12, &found);
    assert_string_equal(
        found.text, "! JSON parse error, message of too many bytes, at most 12 are allowed\n{}\n");
    found.bytes = 0;
    run("{\"a\":1}{}", 3, 6, &found); /* the last bracket is the byte too many */
    assert_string_equal(
        found.text, "! JSON parse error, message of too many bytes, at most 6 are allowed\n{}\n");
    found.bytes = 0;
    run("[\"0123456789]\"] 12345678 {}", 1, 8, &found);
    assert_string_equal(found.text,
                        "! JSON parse error, message of too many bytes, at most 8 are allowed\n"
                        "12345678\n{}\n");
    strbuf_fini(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_gives_the_same_messages),
        cmocka_unit_test(nesting_is_bounded_and_said_once),
        cmocka_unit_test(size_is_bounded_and_the_rest_swallowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
