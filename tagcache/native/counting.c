/* Counters, and removals: INCR, DECR, INCRBY, DECRBY and DEL. */

#include "plain.h"

#include <math.h>

bool
read_number(Part text, long long *number)
{
    bool is_negative = text.length > 0 && text.start[0] == '-';
    size_t first = is_negative ? 1 : 0;
    size_t digits = text.length - first;
    if (digits == 0 || digits > 18 || (text.start[first] == '0' && (digits > 1 || is_negative))) {
        return false;
    }
    *number = 0;
    for (size_t at = first; at < text.length; at++) {
        if (text.start[at] < '0' || text.start[at] > '9') {
            return false;
        }
        *number = *number * 10 + (text.start[at] - '0');
    }
    *number = is_negative ? -*number : *number;
    return true;
}

/* The time to live with which an entry keeps its deadline. */
static double
time_left(const Entry *entry, double now)
{
    double deadline = entry->stored + entry->ttl;
    double left = deadline - now;
    while (now + left < deadline) {
        left = nextafter(left, INFINITY);
    }
    return left;
}

enum found
answer_count(PlainRequests *self, enum dialect dialect, const Request *request, const Key *key,
             double now, Output *output)
{
    long long number, step = 1;
    Entry *entry = find_live(self, key, now);
    /* In RESP, Python checks the tags again. */
    if (entry == NULL || (dialect != LINE && !has_fitting_tags(self, entry)) ||
        output->capacity - output->length < FRAME_BYTES ||
        (request->step.length > 0 && !read_number(request->step, &step))) {
        return FOR_PYTHON;
    }
    Part text = {PyBytes_AS_STRING(entry->value), (size_t)PyBytes_GET_SIZE(entry->value)};
    if (!read_number(text, &number)) {
        return FOR_PYTHON;
    }
    /* Neither has more than 18 digits. */
    number += request->verb == DECR || request->verb == DECRBY ? -step : step;
    char digits[FRAME_BYTES];
    int count = snprintf(digits, sizeof(digits), "%lld", number);
    PyObject *value = PyBytes_FromStringAndSize(digits, count);
    /* In the line protocol, the time to live starts again; in RESP, the deadline stays. */
    double ttl = dialect == LINE || isinf(entry->ttl) ? entry->ttl : time_left(entry, now);
    bool counted = value != NULL && overwrite_entry(self, key, entry, value, ttl, now);
    PyErr_Clear();
    Py_XDECREF(value);
    if (!counted) {
        return FOR_PYTHON;
    }
    append(output, dialect == LINE ? "VALUE\t" : ":", dialect == LINE ? 6 : 1);
    append(output, digits, (size_t)count);
    append(output, dialect == LINE ? "\n" : "\r\n", dialect == LINE ? 1 : 2);
    return ANSWERED;
}

/* Call the cache. If it raises, it has changed nothing, and Python repeats the request. */
enum found
answer_delete(PlainRequests *self, enum dialect dialect, const Key *key, Output *output)
{
    if (output->capacity - output->length < FRAME_BYTES) {
        return FOR_PYTHON;
    }
    self->called_python = true;
    PyObject *result = PyObject_CallOneArg(self->delete, key->bytes);
    if (result == NULL) {
        PyErr_Clear();
        return FOR_PYTHON;
    }
    bool there = result == Py_True;
    Py_DECREF(result);
    if (dialect == LINE) {
        append(output, there ? "DEL ok\n" : "DEL nf\n", 7);
    } else {
        append(output, there ? ":1\r\n" : ":0\r\n", 4);
    }
    return ANSWERED;
}
