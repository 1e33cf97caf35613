/*
 * opt_keyval.c -- "driver=file,filename=/a,,b,cache.direct=on": one option string to an object.
 *
 *     options  = [ item { ',' item } [ ',' ] ]
 *     item     = key '=' value | 'help' | '?'      (the first may be a value alone: its key is
 *                                                   implied)
 *     key      = fragment { '.' fragment }         (a name; after the first also a list index)
 *     value    = { any character but ',' | ',,' }  (",,": one comma)
 *
 * Items are put into a tree of objects, each leaf a string; the last of two equal keys wins. Then
 * objects whose members are all list indexes become arrays.
 */
#include "base/jsontext.h"
#include "base/mem.h"
#include "base/opt.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>

enum { FRAGMENT_BYTES_MAX = 127, INDEX_MAX = 1 << 20 };

struct keyval {
    const char *at;          /* what is still to be read */
    const char *implied_key; /* until the first item is read */
    json_t *root;
    bool help;
    struct err **reterr;
};

struct span {
    const char *at;
    size_t bytes;
};

/* Bytes of a decimal list index at @at, and its value (capped); 0: none. */
static size_t index_bytes(struct span from, size_t *ret_index)
{
    size_t bytes = 0;
    size_t index = 0;

    while (bytes < from.bytes && isdigit((unsigned char)from.at[bytes])) {
        index = min_of(index * 10 + (size_t)(from.at[bytes] - '0'), (size_t)INDEX_MAX);
        bytes++;
    }
    *ret_index = index;
    return bytes;
}

static bool is_name_byte(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

/* Bytes of a QAPI name: a letter, then letters, digits, '-', '_'; or "__RFQDN_" and such a name. */
static size_t name_bytes(struct span from)
{
    size_t start = 0;
    size_t bytes;

    if (from.bytes > 2 && from.at[0] == '_' && from.at[1] == '_') {
        const char *end = memchr(from.at + 2, '_', from.bytes - 2);

        start = end == NULL ? 0 : (size_t)(end - from.at) + 1;
    }
    if (start >= from.bytes || !isalpha((unsigned char)from.at[start])) {
        return 0;
    }
    for (bytes = start + 1; bytes < from.bytes && is_name_byte(from.at[bytes]); bytes++) {
    }
    return bytes;
}

/* The fragment at the start of @rest, ended by '.' or the key's end; 0: there is none. */
static size_t fragment_bytes(struct span rest, bool is_first)
{
    size_t index;
    size_t bytes = is_first ? 0 : index_bytes(rest, &index);

    if (bytes == 0) {
        bytes = name_bytes(rest);
    }
    return bytes < rest.bytes && rest.at[bytes] != '.' ? 0 : bytes;
}

static int conflict(struct keyval *k, const char *key, size_t bytes)
{
    return err_set(k->reterr, EINVAL, "Parameters '%.*s.*' used inconsistently", (int)bytes, key);
}

/* The object that is member @name of @parent, made if need be; NULL: a plain value is there. */
static json_t *descend(json_t *parent, const char *name)
{
    json_t *child = json_object_get(parent, name);

    if (child == NULL) {
        child = json_object();
        json_object_set_new(parent, name, child);
    }
    return json_is_object(child) ? child : NULL;
}

/* Walk @key down from the root; gives the object that holds the leaf and the leaf's name. */
static int walk(struct keyval *k, struct span key, json_t **ret_parent,
                char ret_leaf[FRAGMENT_BYTES_MAX + 1])
{
    struct span rest = key;
    json_t *parent = k->root;

    for (unsigned level = 0; level < JSONTEXT_NESTING_MAX; level++) {
        size_t bytes = fragment_bytes(rest, level == 0);

        if (bytes == 0) {
            return err_set(k->reterr, EINVAL, "Invalid parameter '%.*s'", (int)key.bytes, key.at);
        }
        if (bytes > FRAGMENT_BYTES_MAX) {
            return err_set(k->reterr, EINVAL, "Parameter%s '%.*s' is too long, at most %d bytes",
                           bytes < key.bytes ? " fragment" : "", (int)bytes, rest.at,
                           FRAGMENT_BYTES_MAX);
        }
        memcpy(ret_leaf, rest.at, bytes);
        ret_leaf[bytes] = '\0';
        if (bytes == rest.bytes) {
            *ret_parent = parent;
            return 0;
        }
        parent = descend(parent, ret_leaf);
        if (parent == NULL) {
            return conflict(k, key.at, (size_t)(rest.at + bytes - key.at));
        }
        rest.at += bytes + 1;
        rest.bytes -= bytes + 1;
    }
    return err_set(k->reterr, EINVAL, "Parameter '%.40s…' has more than %d parts", key.at,
                   JSONTEXT_NESTING_MAX);
}

static char *read_value(struct keyval *k)
{
    struct strbuf value = {0};

    strbuf_add(&value, "", 0);
    while (*k->at != '\0') {
        if (*k->at == ',' && *++k->at != ',') {
            break; /* the comma between items; a double one is kept once */
        }
        strbuf_add(&value, k->at++, 1);
    }
    return value.text;
}

static int put(struct keyval *k, struct span key)
{
    char leaf[FRAGMENT_BYTES_MAX + 1];
    AUTO_MEM char *value = NULL;
    json_t *parent = NULL;
    int rc = walk(k, key, &parent, leaf);

    if (rc < 0) {
        return rc;
    }
    if (json_is_object(json_object_get(parent, leaf))) {
        return conflict(k, key.at, key.bytes);
    }
    value = read_value(k);
    if (json_object_set_new(parent, leaf, json_string(value)) < 0) {
        return err_set(k->reterr, EINVAL, "Parameter '%.*s' is not UTF-8", (int)key.bytes, key.at);
    }
    return 0;
}

static bool is_help(struct span word)
{
    return (word.bytes == 4 && memcmp(word.at, "help", 4) == 0) ||
           (word.bytes == 1 && word.at[0] == '?');
}

static int read_item(struct keyval *k)
{
    struct span word = {.at = k->at, .bytes = strcspn(k->at, "=,")};
    const char *implied_key = take(&k->implied_key);

    if (word.at[word.bytes] == '=') {
        k->at += word.bytes + 1;
        return put(k, word);
    }
    if (is_help(word)) {
        k->help = true;
        k->at += word.bytes + (word.at[word.bytes] == ',');
        return 0;
    }
    if (implied_key != NULL && word.bytes > 0) {
        return put(k, (struct span){.at = implied_key, .bytes = strlen(implied_key)});
    }
    if (word.bytes == 0 || fragment_bytes(word, true) == 0) {
        return err_set(k->reterr, EINVAL, "Invalid parameter '%.*s'", (int)word.bytes, word.at);
    }
    return err_set(k->reterr, EINVAL, "Expected '=' after parameter '%.*s'", (int)word.bytes,
                   word.at);
}

/* ---- lists ---- */

static bool is_index(const char *name, size_t *ret_index)
{
    struct span span = {.at = name, .bytes = strlen(name)};

    return span.bytes > 0 && index_bytes(span, ret_index) == span.bytes;
}

static json_t *listify(struct keyval *k, json_t *object, const char *prefix);

/* Listify every member; count those that are list indexes. */
static int listify_members(struct keyval *k, json_t *object, const char *prefix,
                           size_t *ret_indexes)
{
    const char *name;
    json_t *member;
    void *following;
    size_t index;

    *ret_indexes = 0;
    json_object_foreach_safe(object, following, name, member)
    {
        AUTO_MEM char *path = str_format("%s%s.", prefix, name);

        *ret_indexes += is_index(name, &index);
        if (json_is_object(member)) {
            json_t *listified = listify(k, member, path);

            if (listified == NULL) {
                return -EINVAL;
            }
            json_object_set_new(object, name, listified);
        }
    }
    return 0;
}

static json_t *member_at(json_t *object, size_t wanted)
{
    const char *name;
    json_t *member;
    size_t index;

    json_object_foreach(object, name, member)
    {
        if (is_index(name, &index) && index == wanted) {
            return member;
        }
    }
    return NULL;
}

/* @object, whose members may be list indexes, as an array if they are; a new reference. NULL: some
 * are and some are not, or one is missing. */
static json_t *listify(struct keyval *k, json_t *object, const char *prefix)
{
    size_t count = json_object_size(object);
    size_t indexes;
    json_t *array;

    if (listify_members(k, object, prefix, &indexes) < 0) {
        return NULL;
    }
    if (indexes == 0) {
        return json_incref(object);
    }
    if (indexes != count) {
        (void)err_set(k->reterr, EINVAL, "Parameters '%s*' used inconsistently", prefix);
        return NULL;
    }
    array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *member = member_at(object, i);

        if (member == NULL) {
            (void)err_set(k->reterr, EINVAL, "Parameter '%s%zu' missing", prefix, i);
            json_decref(array);
            return NULL;
        }
        json_array_append(array, member);
    }
    return array;
}

static int parse_keyval(struct keyval *k)
{
    json_t *listified;

    while (*k->at != '\0') {
        int rc = read_item(k);

        if (rc < 0) {
            return rc;
        }
    }
    listified = listify(k, k->root, "");
    if (listified == NULL) {
        return -EINVAL;
    }
    json_decref(k->root);
    k->root = listified;
    return 0;
}

static int parse_json(const char *text, json_t **ret_object, struct err **reterr)
{
    json_t *object = jsontext_parse(text, reterr);

    if (object == NULL) {
        return -EINVAL;
    }
    *ret_object = object; /* the text begins with '{': an object or an error */
    return 0;
}

int opt_parse_string(const char *text, const char *implied_key, json_t **ret_object,
                     unsigned *ret_flags, bool *ret_help, struct err **reterr)
{
    struct keyval k = {.at = text, .implied_key = implied_key, .reterr = reterr};
    int rc;

    if (text[0] == '{') {
        rc = parse_json(text, ret_object, reterr);
        if (rc == 0) {
            *ret_flags = 0;
            *ret_help = false;
        }
        return rc;
    }
    k.root = json_object();
    rc = parse_keyval(&k);
    if (rc < 0) {
        json_decref(k.root);
        return rc;
    }
    *ret_object = k.root;
    *ret_flags = OPT_FROM_TEXT;
    *ret_help = k.help;
    return 0;
}
