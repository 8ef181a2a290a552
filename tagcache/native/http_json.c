/* Read the JSON of a store, and write the JSON of responses, byte for byte as Python does.
 *
 * Whatever is rare in JSON is left to Python: other fields, numbers with a fraction, \u escapes. */

#include "http.h"

/* Strings */

/* The length of the UTF-8 character at the beginning; 0 if it is none, as Python decides. */
static size_t
character_length(const unsigned char *at, size_t left)
{
    unsigned char first = at[0], low = 0x80, high = 0xbf;
    size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (length == 1) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4 || left < length) {
        return 0;
    }
    /* Not the longer form of another character, nor a surrogate, nor beyond Unicode. */
    low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : low;
    high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : high;
    if (at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t next = 2; next < length; next++) {
        if ((at[next] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return length;
}

/* The letter that follows the backslash in the escape of a byte; 0 if it has none. */
static char
escape_letter(unsigned char byte)
{
    switch (byte) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

/* Whether the bytes stand for themselves in a string, and are ASCII. */
static bool
is_simple(const char *text, size_t length)
{
    /* Without a branch, so that the compiler can do many at once. */
    unsigned char special = 0;
    for (size_t at = 0; at < length; at++) {
        unsigned char byte = (unsigned char)text[at];
        special |= (unsigned char)((byte < ' ') | (byte >= 0x80) | (byte == '"') | (byte == '\\'));
    }
    return special == 0;
}

/* How long the text is as a string without its quotes; false if it is not UTF-8. */
static bool
escaped_length(const char *text, size_t length, size_t *escaped)
{
    *escaped = 0;
    for (size_t at = 0; at < length;) {
        unsigned char byte = (unsigned char)text[at];
        size_t bytes = character_length((const unsigned char *)text + at, length - at);
        if (bytes == 0) {
            return false;
        }
        *escaped += escape_letter(byte) != 0 ? 2 : byte < ' ' ? 6 : bytes;
        at += bytes;
    }
    return true;
}

static void
append_escaped(Output *output, const char *text, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        unsigned char byte = (unsigned char)text[at];
        char letter = escape_letter(byte);
        if (letter != 0) {
            append(output, (char[]){'\\', letter}, 2);
        } else if (byte < ' ') {
            append(output, "\\u00", 4);
            append(output, (char[]){byte < 0x10 ? '0' : '1', "0123456789abcdef"[byte & 15]}, 2);
        } else {
            append(output, text + at, 1);
        }
    }
}

/* Responses */

static void
append_head(Output *output, size_t body)
{
    static const char head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    append(output, head, sizeof(head) - 1);
    append_number(output, body);
    append(output, "\r\n\r\n", 4);
}

void
write_http_missing(Output *output)
{
    static const char body[] = "{\"error\":\"not_found\"}";
    append_head(output, sizeof(body) - 1);
    append(output, body, sizeof(body) - 1);
}

bool
write_http_value(Output *output, const char *value, size_t length)
{
    static const char before[] = "{\"value\":\"", after[] = "\"}";
    bool simple = is_simple(value, length);
    size_t escaped = length;
    /* A backslash may begin the mark of a value that is stored in another form, see
     * tagcache/wire/values.py. Other headers are not UTF-8. */
    if ((length > 0 && value[0] == '\\') || (!simple && !escaped_length(value, length, &escaped)) ||
        output->capacity - output->length < escaped + RESPONSE_BYTES) {
        return false;
    }
    append_head(output, sizeof(before) - 1 + escaped + sizeof(after) - 1);
    append(output, before, sizeof(before) - 1);
    if (simple) {
        append(output, value, length);
    } else {
        append_escaped(output, value, length);
    }
    append(output, after, sizeof(after) - 1);
    return true;
}

void
write_http_stored(Output *output, uint64_t ttl_ms)
{
    Output body = {(char[RESPONSE_BYTES]){0}, 0, RESPONSE_BYTES};
    append(&body, "{\"ok\":true,\"ttl_ms\":", 20);
    if (ttl_ms == 0) {
        append(&body, "null", 4);
    } else {
        append_number(&body, ttl_ms);
    }
    append(&body, "}", 1);
    append_head(output, body.length);
    append(output, body.bytes, body.length);
}

/* Requests */

static void
skip_space(Part *text)
{
    while (text->length > 0 && (*text->start == ' ' || *text->start == '\t' ||
                                *text->start == '\r' || *text->start == '\n')) {
        text->start++;
        text->length--;
    }
}

/* Move past a byte and the white space around it; false if it is another one. */
static bool
take_byte(Part *text, char byte)
{
    skip_space(text);
    if (text->length == 0 || *text->start != byte) {
        return false;
    }
    text->start++;
    text->length--;
    skip_space(text);
    return true;
}

/* Take a string of UTF-8; `*escapes` tells whether it has any. */
static bool
take_string(Part *text, Part *string, bool *escapes)
{
    if (text->length == 0 || *text->start != '"') {
        return false;
    }
    size_t at = 1;
    *escapes = false;
    while (at < text->length && text->start[at] != '"') {
        unsigned char byte = (unsigned char)text->start[at];
        size_t bytes = character_length((const unsigned char *)text->start + at, text->length - at);
        if (bytes == 0 || byte < ' ') {
            return false;
        }
        *escapes = *escapes || byte == '\\';
        at += byte == '\\' ? 2 : bytes;
    }
    if (at >= text->length) {
        return false;
    }
    *string = (Part){text->start + 1, at - 1};
    text->start += at + 1;
    text->length -= at + 1;
    return true;
}

static bool
is_name(Part name, const char *expected)
{
    return name.length == strlen(expected) && memcmp(name.start, expected, name.length) == 0;
}

/* Move past a list of strings, or a number; Python reads them. */
static bool
skip_tags(Part *text)
{
    Part tag;
    bool escapes;
    if (!take_byte(text, '[')) {
        return false;
    }
    if (take_byte(text, ']')) {
        return true;
    }
    do {
        if (!take_string(text, &tag, &escapes) || escapes) {
            return false;
        }
    } while (take_byte(text, ','));
    return take_byte(text, ']');
}

static bool
skip_number(Part *text)
{
    size_t digits = 0;
    while (digits < text->length && text->start[digits] >= '0' && text->start[digits] <= '9') {
        digits++;
    }
    text->start += digits;
    text->length -= digits;
    return digits > 0;
}

/* Extend the options of the request by the text from `start` up to `end`. */
static void
add_option(Request *request, const char *start, const char *end)
{
    if (request->options.length == 0) {
        request->options.start = start;
    }
    request->options.length = (size_t)(end - request->options.start);
}

/* Read a field. The options must follow one another, because they are given to Python as one text;
 * `*was_option` tells whether the field before was one. */
static bool
read_field(Part *text, Request *request, bool *was_option)
{
    const char *start = text->start;
    Part name;
    bool escapes;
    if (!take_string(text, &name, &escapes) || !take_byte(text, ':')) {
        return false;
    }
    bool follows = request->options.length == 0 || *was_option;
    *was_option = false;
    if (is_name(name, "key")) {
        return request->key.start == NULL && take_string(text, &request->key, &escapes) && !escapes;
    }
    if (is_name(name, "value")) {
        return request->value.start == NULL &&
               take_string(text, &request->value, &request->has_escapes);
    }
    *was_option = true;
    bool is_tags = is_name(name, "tags");
    if (!follows || !(is_tags || is_name(name, "ttl_ms")) ||
        !(is_tags ? skip_tags(text) : skip_number(text))) {
        return false;
    }
    add_option(request, start, text->start);
    return true;
}

bool
read_entry(Part body, Request *request)
{
    bool was_option = false;
    /* Without options their text is empty, but somewhere. */
    request->options = (Part){body.start, 0};
    if (!take_byte(&body, '{')) {
        return false;
    }
    do {
        if (!read_field(&body, request, &was_option)) {
            return false;
        }
    } while (take_byte(&body, ','));
    return take_byte(&body, '}') && body.length == 0 && request->key.length > 0 &&
           request->value.start != NULL;
}

/* The byte for which an escape stands; 0 if Python must read it. */
static char
byte_for(char letter)
{
    switch (letter) {
    case '"':
    case '\\':
    case '/':
        return letter;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return 0;
    }
}

PyObject *
unescaped(Part text)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)text.length);
    if (bytes == NULL) {
        PyErr_Clear();
        return NULL;
    }
    char *start = PyBytes_AS_STRING(bytes), *end = start;
    for (size_t at = 0; at < text.length; at++) {
        char byte = text.start[at];
        if (byte == '\\') {
            byte = byte_for(text.start[++at]);
            if (byte == 0) {
                Py_DECREF(bytes);
                return NULL;
            }
        }
        *end++ = byte;
    }
    if (end > start && *start == '\\') {
        /* Python stores what looks like a mark in another form. */
        Py_DECREF(bytes);
        return NULL;
    }
    /* On failure it is NULL. */
    _PyBytes_Resize(&bytes, end - start);
    PyErr_Clear();
    return bytes;
}
