/* Reads plain requests of the line protocol and of RESP; each takes a time linear in its length. */

#include "request.h"

/* The arguments of a store in RESP. */
#define MOST_ARGUMENTS 40

static bool
starts_with(const char *input, size_t length, const char *text, size_t text_length)
{
    return length >= text_length && memcmp(input, text, text_length) == 0;
}

#define STARTS_WITH(input, length, text) starts_with(input, length, text, sizeof(text) - 1)

/* Take a field up to a tab off the line. */
static bool
take_field(Part *line, Part *field)
{
    const char *tab = memchr(line->start, '\t', line->length);
    if (tab == NULL) {
        return false;
    }
    *field = (Part){line->start, (size_t)(tab - line->start)};
    line->length -= field->length + 1;
    line->start = tab + 1;
    return true;
}

/* GET<TAB>key<LF>, or PUT<TAB>key<TAB>ttl<TAB>tags<TAB>value<LF>, without a carriage return. */
Request
read_line(const char *input, size_t length)
{
    Request request = {0};
    bool is_put = STARTS_WITH(input, length, "PUT\t");
    if (!is_put && !STARTS_WITH(input, length, "GET\t")) {
        return request;
    }
    size_t most = is_put || length < LONGEST_KEY ? length : LONGEST_KEY;
    const char *end = memchr(input, '\n', most);
    if (end == NULL || memchr(input, '\r', (size_t)(end - input)) != NULL) {
        return request;
    }
    Part line = {input + 4, (size_t)(end - input) - 4};
    if (is_put) {
        Part ttl, tags;
        if (!take_field(&line, &request.key) || !take_field(&line, &ttl) ||
            !take_field(&line, &tags)) {
            return request;
        }
        request.verb = STORE;
        request.options = (Part){ttl.start, ttl.length + 1 + tags.length};
        request.value = line;
    } else if (memchr(line.start, '\t', line.length) != NULL) {
        return request;
    } else {
        request.key = line;
    }
    request.length = (size_t)(end - input) + 1;
    return request;
}

/* Read a number without leading zeros, and the end of its line; move `*at` behind them. */
static bool
take_number(const char *input, size_t length, size_t *at, size_t *number)
{
    size_t first = *at;
    *number = 0;
    while (*at < length && *at < first + 6 && input[*at] >= '0' && input[*at] <= '9') {
        *number = *number * 10 + (size_t)(input[(*at)++] - '0');
    }
    bool is_plain = *at > first && (input[first] != '0' || *at == first + 1);
    if (!is_plain || !STARTS_WITH(input + *at, length - *at, "\r\n")) {
        return false;
    }
    *at += 2;
    return true;
}

bool
take_bulk(const char *input, size_t length, size_t *at, Part *bulk)
{
    size_t bulk_length;
    if (*at >= length || input[*at] != '$') {
        return false;
    }
    ++*at;
    if (!take_number(input, length, at, &bulk_length) || length - *at < bulk_length + 2 ||
        !STARTS_WITH(input + *at + bulk_length, 2, "\r\n")) {
        return false;
    }
    *bulk = (Part){input + *at, bulk_length};
    *at += bulk_length + 2;
    return true;
}

static bool
is_verb(Part verb, const char *name)
{
    return verb.length == strlen(name) && memcmp(verb.start, name, verb.length) == 0;
}

/* Read so many bulk strings; the part with all of them. */
static bool
take_bulks(const char *input, size_t length, size_t *at, size_t count, Part *bulks)
{
    Part bulk;
    bulks->start = input + *at;
    for (size_t taken = 0; taken < count; taken++) {
        if (!take_bulk(input, length, at, &bulk)) {
            return false;
        }
    }
    bulks->length = (size_t)(input + *at - bulks->start);
    return true;
}

/* GET key, MGET key ..., SET key value ..., or TAG.SET key value ..., in capitals as clients send it. */
Request
read_resp(const char *input, size_t length)
{
    Request request = {0};
    size_t at = 1, count;
    Part verb;
    if (length == 0 || input[0] != '*' || !take_number(input, length, &at, &count) ||
        !take_bulk(input, length, &at, &verb)) {
        return request;
    }
    bool is_complete = false;
    if (count == 2 && is_verb(verb, "GET")) {
        is_complete = take_bulk(input, length, &at, &request.key);
    } else if (count >= 2 && is_verb(verb, "MGET")) {
        request.verb = LOOK_UP_MANY;
        request.key_count = count - 1;
        is_complete = take_bulks(input, length, &at, count - 1, &request.keys);
    } else if (count >= 3 && count <= MOST_ARGUMENTS &&
               (is_verb(verb, "SET") || is_verb(verb, "TAG.SET"))) {
        request.verb = is_verb(verb, "SET") ? STORE : TAG_STORE;
        is_complete = take_bulk(input, length, &at, &request.key) &&
                      take_bulk(input, length, &at, &request.value) &&
                      take_bulks(input, length, &at, count - 3, &request.options);
    }
    request.length = is_complete ? at : 0;
    return request;
}
