/* Look-ups: write the values of one or many keys as the bytes of the reply. */

#include "plain.h"

/* printf would take longer than the rest of a look-up. */
void
append_number(Output *output, size_t number)
{
    char digits[20];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    append(output, digits + first, sizeof(digits) - first);
}

static void
write_missing(Output *output, enum dialect dialect)
{
    switch (dialect) {
    case LINE:
        append(output, "NF\n", 3);
        break;
    case RESP2:
        append(output, "$-1\r\n", 5);
        break;
    case RESP3:
        append(output, "_\r\n", 3);
        break;
    case HTTP:
        write_http_missing(output);
        break;
    }
}

/* Whether a line can contain the value. The caller has made sure that there is room. */
static bool
write_line(Output *output, const char *head, const char *value, size_t length)
{
    if (memchr(value, '\n', length) != NULL) {
        return false;
    }
    append(output, head, strlen(head));
    append(output, value, length);
    append(output, "\n", 1);
    return true;
}

/* Whether there was room, and a line can contain the value. */
static bool
write_value(Output *output, enum dialect dialect, const char *value, size_t length)
{
    if (output->capacity - output->length < length + frame_bytes(dialect)) {
        return false;
    }
    if (dialect == HTTP) {
        return write_http_value(output, value, length);
    }
    if (dialect == LINE) {
        return write_line(output, "VALUE\t", value, length);
    }
    append(output, "$", 1);
    append_number(output, length);
    append(output, "\r\n", 2);
    append(output, value, length);
    append(output, "\r\n", 2);
    return true;
}

/* Write the reply to a FETCH that finds an entry, and takes no lease. */
static bool
write_hit(Output *output, enum dialect dialect, const char *value, size_t length)
{
    if (output->capacity - output->length < length + 2 * FRAME_BYTES) {
        return false;
    }
    if (dialect == LINE) {
        return write_line(output, "HIT\t", value, length);
    }
    append(output, "*3\r\n$3\r\nHIT\r\n", 13);
    write_value(output, dialect, value, length);
    write_missing(output, dialect);
    return true;
}

void
note_hit(const PlainRequests *self, Entry *entry)
{
    entry->visited = 1;
    if (self->uses != NULL) {
        use_again(entry, self->uses);
    }
}

/* The hits and misses of a request, which are counted once all its keys are answered. */
typedef struct {
    long long hits, misses;
    Entry *last_hit;
} Tally;

static enum found
count_look_ups(PlainRequests *self, const Tally *tally)
{
    self->hits += tally->hits;
    self->misses += tally->misses;
    self->until_sample -= tally->hits;
    if (self->until_sample > 0 || tally->last_hit == NULL) {
        return ANSWERED;
    }
    PyObject *next = PyObject_CallOneArg(self->on_sample, (PyObject *)tally->last_hit);
    if (next == NULL) {
        return FAILED;
    }
    self->until_sample = PyLong_AsLongLong(next);
    Py_DECREF(next);
    return PyErr_Occurred() ? FAILED : ANSWERED;
}

/* Look a key up, without a count. It borrows entries, which nothing removes meanwhile. */
static enum found
find_value(PlainRequests *self, enum dialect dialect, const Key *key, double now, Output *output,
           Tally *tally)
{
    Entries *table = table_of(self, key->hash);
    if (table == NULL || output->capacity - output->length < frame_bytes(dialect)) {
        return FOR_PYTHON;
    }
    Entry *entry = find_entry(table, key->bytes, key->hash);
    if (entry == NULL) {
        if (PyDict_GetItemWithError(self->removed, key->bytes) != NULL) {
            return FOR_PYTHON;
        }
        if (PyErr_Occurred()) {
            return FAILED;
        }
        write_missing(output, dialect);
        tally->misses++;
        return ANSWERED;
    }
    if (entry->stored + entry->ttl <= now || may_be_dead(self, key, entry) ||
        !write_value(output, dialect, PyBytes_AS_STRING(entry->value),
                     (size_t)PyBytes_GET_SIZE(entry->value))) {
        return FOR_PYTHON;
    }
    note_hit(self, entry);
    tally->hits++;
    tally->last_hit = entry;
    return ANSWERED;
}

enum found
look_up(PlainRequests *self, enum dialect dialect, const Key *key, double now, Output *output)
{
    Tally tally = {0};
    enum found found = find_value(self, dialect, key, now, output, &tally);
    return found == ANSWERED ? count_look_ups(self, &tally) : found;
}

enum found
answer_fetch(PlainRequests *self, enum dialect dialect, const Key *key, double now, Output *output)
{
    Entry *entry = find_live(self, key, now);
    if (entry == NULL || !write_hit(output, dialect, PyBytes_AS_STRING(entry->value),
                                    (size_t)PyBytes_GET_SIZE(entry->value))) {
        return FOR_PYTHON;
    }
    note_hit(self, entry);
    Tally tally = {.hits = 1, .last_hit = entry};
    return count_look_ups(self, &tally);
}

/* Look up the next few keys of a request. */
static enum found
find_some(PlainRequests *self, enum dialect dialect, const Request *request, size_t *at, double now,
          Output *output, Tally *tally)
{
    Key keys[KEYS_AT_ONCE];
    Part part;
    size_t count = 0;
    enum found found = ANSWERED;
    while (found == ANSWERED && count < KEYS_AT_ONCE &&
           take_bulk(request->keys.start, request->keys.length, at, &part)) {
        found = make_key(part, &keys[count]) ? ANSWERED : FOR_PYTHON;
        count += found == ANSWERED;
    }
    prefetch_keys(self, keys, count);
    for (size_t number = 0; number < count; number++) {
        if (found == ANSWERED) {
            found = find_value(self, dialect, &keys[number], now, output, tally);
        }
        Py_DECREF(keys[number].bytes);
    }
    return found;
}

/* Either all keys are answered here, or Python answers the whole request. */
enum found
look_up_many(PlainRequests *self, enum dialect dialect, const Request *request, double now,
             Output *output)
{
    Tally tally = {0};
    size_t start = output->length, at = 0;
    if (output->capacity - output->length < FRAME_BYTES) {
        return FOR_PYTHON;
    }
    append(output, "*", 1);
    append_number(output, request->key_count);
    append(output, "\r\n", 2);
    while (at < request->keys.length) {
        enum found found = find_some(self, dialect, request, &at, now, output, &tally);
        if (found != ANSWERED) {
            output->length = start;
            return found;
        }
    }
    return count_look_ups(self, &tally);
}
